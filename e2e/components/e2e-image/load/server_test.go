package load

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// server is an API of ConfigMaps alone, with versions, conflicts and a watch that can be taken up again, and with the
// faults that a load is to notice.
type server struct {
	*httptest.Server
	onWrite func(number int) fault // decides of each write; nil: none
	onEvent func(number int) bool  // whether a watch tells of a number; nil: it does

	mu      sync.Mutex
	version int
	objects map[string]corev1.ConfigMap
	events  []metav1.WatchEvent
	forgot  int           // events up to this version are not known any more
	news    chan struct{} // closed and made anew at every event
	cut     chan struct{} // closed and made anew to end all watches
}

// fault is what goes wrong with a write.
type fault int

const (
	none   fault = iota
	refuse       // it is not done, and told so
	mute         // it is done, and no answer comes
	lose         // it is acknowledged, and not done
)

func newServer(t *testing.T) *server {
	s := &server{objects: map[string]corev1.ConfigMap{}, news: make(chan struct{}), cut: make(chan struct{})}
	const path = "/api/v1/namespaces/default/configmaps"
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, s.write)
	mux.HandleFunc("PUT "+path+"/{name}", s.write)
	mux.HandleFunc("GET "+path+"/{name}", s.get)
	mux.HandleFunc("GET "+path, s.list)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) client(t *testing.T) corev1client.ConfigMapInterface {
	t.Helper()
	client, err := corev1client.NewForConfig(&rest.Config{
		Host: s.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client.ConfigMaps("default")
}

// endWatches ends all watches; forget also makes that none can be taken up again.
func (s *server) endWatches(forget bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if forget {
		s.version++ // so that nobody has seen the latest
		s.forgot = s.version
	}
	close(s.cut)
	s.cut = make(chan struct{})
}

func (s *server) write(w http.ResponseWriter, r *http.Request) {
	var m corev1.ConfigMap
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	number, _ := strconv.Atoi(m.Data[numberKey])
	fault := none
	if s.onWrite != nil {
		fault = s.onWrite(number)
	}
	if fault == refuse {
		fail(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
		return
	}
	s.mu.Lock()
	old, found := s.objects[m.Name]
	switch {
	case r.Method == http.MethodPost && found:
		s.mu.Unlock()
		fail(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
		return
	case r.Method == http.MethodPut && (!found || old.ResourceVersion != m.ResourceVersion):
		s.mu.Unlock()
		fail(w, http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	s.version++
	m.ResourceVersion = strconv.Itoa(s.version)
	if fault != lose {
		s.objects[m.Name] = m
		if s.onEvent == nil || s.onEvent(number) {
			s.events = append(s.events, metav1.WatchEvent{Type: "MODIFIED", Object: runtime.RawExtension{Object: m.DeepCopy()}})
		}
		close(s.news)
		s.news = make(chan struct{})
	}
	s.mu.Unlock()
	if fault == mute {
		<-r.Context().Done()
		return
	}
	reply(w, http.StatusOK, m)
}

func (s *server) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, found := s.objects[r.PathValue("name")]
	if !found {
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	reply(w, http.StatusOK, m)
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("watch") != "" {
		s.watch(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := corev1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}}
	for _, m := range s.objects {
		list.Items = append(list.Items, m)
	}
	reply(w, http.StatusOK, list)
}

func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	flush := func() { _ = http.NewResponseController(w).Flush() }
	flush()
	for told := 0; ; flush() {
		s.mu.Lock()
		events, news, cut, gone := s.events[told:], s.news, s.cut, from < s.forgot
		s.mu.Unlock()
		if gone {
			_ = encoder.Encode(metav1.WatchEvent{Type: "ERROR", Object: runtime.RawExtension{Object: status(http.StatusGone, metav1.StatusReasonExpired)}})
			return
		}
		for _, event := range events {
			told++
			if version, _ := strconv.Atoi(event.Object.Object.(*corev1.ConfigMap).ResourceVersion); version > from {
				_ = encoder.Encode(event)
			}
		}
		flush()
		select {
		case <-news:
		case <-cut:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func reply(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

func fail(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	reply(w, code, status(code, reason))
}

func status(code int, reason metav1.StatusReason) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: fmt.Sprint(reason),
	}
}

// until waits for a load to have had so many writes acknowledged.
func until(t *testing.T, l *Load, writes int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		n := l.total.Acknowledged + l.lap.Acknowledged
		l.mu.Unlock()
		if n >= writes {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d writes are acknowledged, want %d", n, writes)
		}
	}
}
