package join

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/kube"
)

// readClusterInfo reads the API's answer with the ConfigMap kube-public/cluster-info, and believes it only if the token
// has signed it. Key kubeconfig holds a kubeconfig with one nameless cluster and no user; key jws-kubeconfig-ID its
// signature, a detached JWS (HS256).
func readClusterInfo(body []byte, token kube.Token) (*ClusterInfo, error) {
	var m corev1.ConfigMap
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, errors.New("the answer is no ConfigMap; hint: the endpoint is no Kubernetes API")
	}
	kubeconfig, ok := m.Data[bootstrapapi.KubeConfigKey]
	if !ok {
		return nil, errors.New("ConfigMap kube-public/cluster-info has no key kubeconfig; hint: the phase bootstrap-token of init writes it")
	}
	signature, ok := m.Data[bootstrapapi.JWSSignatureKeyPrefix+token.ID]
	if !ok {
		return nil, &TokenUnknownError{ID: token.ID}
	}
	_, secret, _ := strings.Cut(token.Reveal(), ".")
	if !jws.DetachedTokenIsValid(signature, kubeconfig, token.ID, secret) {
		return nil, &TokenMismatchError{ID: token.ID}
	}
	info, err := parseClusterInfo([]byte(kubeconfig))
	if err != nil {
		return nil, fmt.Errorf("ConfigMap kube-public/cluster-info: kubeconfig: %w", err)
	}
	return info, nil
}

func parseClusterInfo(kubeconfig []byte) (*ClusterInfo, error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, err
	}
	if len(config.Clusters) != 1 {
		return nil, fmt.Errorf("it has %d clusters, not one", len(config.Clusters))
	}
	for _, cluster := range config.Clusters {
		server, err := url.Parse(cluster.Server)
		if err != nil || server.Scheme != "https" || server.Hostname() == "" {
			return nil, fmt.Errorf("server %q is not an https URL", cluster.Server)
		}
		if len(cluster.CertificateAuthorityData) == 0 {
			return nil, errors.New("it holds no CA")
		}
		if _, err := certs.ParseCertificates(cluster.CertificateAuthorityData); err != nil {
			return nil, fmt.Errorf("CA: %w", err)
		}
		return &ClusterInfo{Server: cluster.Server, CA: cluster.CertificateAuthorityData}, nil
	}
	return nil, errors.New("it has no cluster")
}
