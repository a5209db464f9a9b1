package kubetest

import (
	stdbase64 "encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

// target is what a request's path names.
type target struct {
	gvk schema.GroupVersionKind
	key key // name.Name is empty for a list
}

func (t target) resource() schema.GroupResource { return t.key.resource }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	sick, isHealth := s.health[r.URL.Path]
	s.mu.Unlock()
	if s.Intercept != nil && s.Intercept(w, r) {
		return
	}
	switch r.URL.Path {
	case "/livez", "/readyz", "/healthz":
		isHealth = true
	}
	if isHealth {
		if sick != "" {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, sick)
			return
		}
		fmt.Fprint(w, "ok")
		return
	}
	if err := s.object(w, r); err != nil {
		Fail(w, err)
	}
}

// Fail answers with an error as the API does it: those of package apierrors with their status, others with 500.
func Fail(w http.ResponseWriter, err error) {
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		status = apierrors.NewInternalError(err)
	}
	body := status.Status()
	body.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	answer(w, int(body.Code), body)
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client is gone; its test says so
}

// object serves what is below /api and /apis.
func (s *Server) object(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	at, kinds, err := s.target(r.URL.Path)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if kinds != nil {
		answer(w, http.StatusOK, kinds)
		return nil
	}
	if r.Method == http.MethodGet && r.URL.Query().Get("watch") != "" {
		return s.watch(w, r, at)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		return s.get(w, r, at)
	case http.MethodDelete:
		obj := s.objects[at.key]
		if obj == nil {
			return apierrors.NewNotFound(at.resource(), at.key.name.Name)
		}
		if err := preconditions(r, at, obj); err != nil {
			return err
		}
		s.remove(at.key)
		answer(w, http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Success"})
		return nil
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return s.write(w, r, at)
	}
	return apierrors.NewMethodNotSupported(at.resource(), r.Method)
}

// preconditions refuses to delete another object than the one that the request means.
func preconditions(r *http.Request, at target, obj *unstructured.Unstructured) error {
	data, err := io.ReadAll(r.Body)
	if err != nil || len(data) == 0 {
		return err
	}
	options := &metav1.DeleteOptions{}
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
	if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, &gvk, options); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	want := options.Preconditions
	if want == nil || (want.UID == nil || *want.UID == obj.GetUID()) && (want.ResourceVersion == nil || *want.ResourceVersion == obj.GetResourceVersion()) {
		return nil
	}
	return apierrors.NewConflict(at.resource(), obj.GetName(), fmt.Errorf("it is not the object of the preconditions"))
}

// target reads a path. For the path of a group and version it returns the kinds instead.
func (s *Server) target(path string) (at target, kinds *metav1.APIResourceList, err error) {
	missing := apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "404 page not found", 0, true)
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var gv schema.GroupVersion
	switch {
	case len(parts) >= 2 && parts[0] == "api":
		gv.Version, parts = parts[1], parts[2:]
	case len(parts) >= 3 && parts[0] == "apis":
		gv.Group, gv.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return at, nil, missing
	}
	if len(parts) == 0 {
		kinds := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: gv.String()}
		for gvk, resource := range s.custom {
			if gvk.GroupVersion() == gv {
				kinds.APIResources = append(kinds.APIResources, resource)
			}
		}
		if kinds.APIResources == nil {
			return at, nil, missing
		}
		return at, kinds, nil
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		at.key.name.Namespace, parts = parts[1], parts[2:]
	}
	at.key.resource = gv.WithResource(parts[0]).GroupResource()
	if len(parts) > 1 {
		at.key.name.Name = parts[1]
	}
	for gvk, resource := range s.custom {
		if gvk.GroupVersion() == gv && resource.Name == parts[0] {
			at.gvk = gvk
			return at, nil, nil
		}
	}
	for kind := range scheme.Scheme.KnownTypes(gv) {
		if plural, _ := meta.UnsafeGuessKindToResource(gv.WithKind(kind)); plural.Resource == parts[0] {
			at.gvk = gv.WithKind(kind)
			return at, nil, nil
		}
	}
	if gv.Group == "apiextensions.k8s.io" {
		at.gvk = gv.WithKind("CustomResourceDefinition")
		return at, nil, nil
	}
	return at, nil, missing
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, at target) error {
	if at.key.name.Name != "" {
		obj := s.objects[at.key]
		if obj == nil {
			return apierrors.NewNotFound(at.resource(), at.key.name.Name)
		}
		answer(w, http.StatusOK, obj)
		return nil
	}
	match, err := selector(r, at)
	if err != nil {
		return err
	}
	items := []any{}
	for _, obj := range s.selected(match) {
		items = append(items, obj.Object)
	}
	answer(w, http.StatusOK, map[string]any{
		"apiVersion": at.gvk.GroupVersion().String(), "kind": at.gvk.Kind + "List",
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)}, "items": items,
	})
	return nil
}

// selector is the filter of a list or watch: the resource, the namespace, and both selectors.
func selector(r *http.Request, at target) (func(key, *unstructured.Unstructured) bool, error) {
	byLabel, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	byField, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return func(k key, obj *unstructured.Unstructured) bool {
		values := fields.Set{}
		for _, need := range byField.Requirements() {
			values[need.Field], _, _ = unstructured.NestedString(obj.Object, strings.Split(need.Field, ".")...)
		}
		return k.resource == at.key.resource &&
			(at.key.name.Namespace == "" || at.key.name.Namespace == k.name.Namespace) &&
			byLabel.Matches(labels.Set(obj.GetLabels())) && byField.Matches(values)
	}, nil
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request, at target) error {
	match, err := selector(r, at)
	if err != nil {
		return err
	}
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if err != nil {
		return apierrors.NewBadRequest("a watch here needs a resourceVersion")
	}
	s.mu.Lock()
	dropped, gone := s.dropped, from < s.oldest
	s.mu.Unlock()
	if gone {
		return apierrors.NewResourceExpired("too old resource version")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	for {
		s.mu.Lock()
		changed := s.changed
		for _, e := range s.events {
			if obj := e.Object.(*unstructured.Unstructured); e.version > from && match(e.key, obj) {
				_ = json.NewEncoder(w).Encode(map[string]any{"type": string(e.Type), "object": obj.Object})
			}
		}
		from = s.version
		s.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-dropped:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}

// write serves create, update and the patches. s.mu is held.
func (s *Server) write(w http.ResponseWriter, r *http.Request, at target) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	sent := &unstructured.Unstructured{}
	if r.Header.Get("Content-Type") == runtime.ContentTypeProtobuf {
		typed, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		if sent, err = toUnstructured(typed); err != nil {
			return err
		}
	} else if err := json.Unmarshal(data, &sent.Object); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if at.key.name.Name == "" {
		at.key.name.Name = sent.GetName()
	}
	old := s.objects[at.key]
	obj, err := s.merge(r, at, old, sent)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if old == nil {
		code = http.StatusCreated
		namespace := key{schema.GroupResource{Resource: "namespaces"}, types.NamespacedName{Name: at.key.name.Namespace}}
		if at.key.name.Namespace != "" && s.objects[namespace] == nil {
			return apierrors.NewNotFound(namespace.resource, at.key.name.Namespace)
		}
		obj.SetCreationTimestamp(metav1.Unix(1790000000, 0))
	}
	if s.Mutate != nil {
		s.Mutate(obj)
	}
	switch {
	case r.URL.Query().Get("dryRun") == metav1.DryRunAll:
	case old != nil && same(old, obj): // as the real one: a write that changes nothing has no effect
		obj = old
	default:
		s.store(at.key, obj)
	}
	answer(w, code, obj)
	return nil
}

// merge makes the new object of the old one, nil if there is none, and what was sent.
func (s *Server) merge(r *http.Request, at target, old, sent *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	name := at.key.name.Name
	manager := r.URL.Query().Get("fieldManager")
	if v := sent.GetResourceVersion(); v != "" && old != nil && v != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(at.resource(), name, fmt.Errorf("the object has been modified"))
	}
	switch {
	case r.Method == http.MethodPost && old != nil:
		return nil, apierrors.NewAlreadyExists(at.resource(), name)
	case r.Method == http.MethodPost:
		sent.SetGroupVersionKind(at.gvk)
		sent.SetNamespace(at.key.name.Namespace)
		return updated(at.gvk, nil, sent, manager)
	case r.Header.Get("Content-Type") == string(types.ApplyYAMLPatchType):
		return applied(at.gvk, old, sent, manager, r.URL.Query().Get("force") == "true")
	case old == nil:
		return nil, apierrors.NewNotFound(at.resource(), name)
	case r.Method == http.MethodPut:
		return updated(at.gvk, old, sent, manager)
	case r.Header.Get("Content-Type") == string(types.MergePatchType):
		obj := old.DeepCopy()
		mergePatch(obj.Object, sent.Object)
		return updated(at.gvk, old, obj, manager)
	}
	return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, r.Method, at.resource(), name, "", 0, true)
}

// mergePatch is RFC 7386.
func mergePatch(into, patch map[string]any) {
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(into, k)
		case map[string]any:
			below, ok := into[k].(map[string]any)
			if !ok {
				below = map[string]any{}
				into[k] = below
			}
			mergePatch(below, v)
		default:
			into[k] = v
		}
	}
}

func toUnstructured(obj runtime.Object) (*unstructured.Unstructured, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return u.DeepCopy(), nil
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(kinds[0])
	return u, nil
}

func keyOf(u *unstructured.Unstructured) key {
	plural, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	return key{plural.GroupResource(), types.NamespacedName{Namespace: u.GetNamespace(), Name: u.GetName()}}
}

func base64(data []byte) string { return stdbase64.StdEncoding.EncodeToString(data) }
