package fault

import (
	"net/http"
	"strings"
)

// Request is one request to the API server, as far as its line tells.
type Request struct {
	// Verb is the API's: get, list, watch, create, update, patch, delete; for
	// other paths than resources the HTTP method's. A watch that asks for all
	// there is to begin with is a list.
	Verb string
	// Resource is the plural, with a subresource behind a slash; Namespace and
	// Name are empty where they do not apply.
	Resource, Namespace, Name string
}

func (r Request) writes() bool {
	switch r.Verb {
	case "create", "update", "patch", "delete":
		return true
	}
	return false
}

func requestOf(r *http.Request) Request {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return Request{Verb: strings.ToLower(r.Method), Resource: r.URL.Path}
	}
	var request Request
	if len(parts) >= 3 && parts[0] == "namespaces" {
		request.Namespace, parts = parts[1], parts[2:]
	}
	request.Resource = parts[0]
	if len(parts) > 1 {
		request.Name = parts[1]
	}
	if len(parts) > 2 {
		request.Resource += "/" + parts[2]
	}
	switch r.Method {
	case http.MethodPost:
		request.Verb = "create"
	case http.MethodPut:
		request.Verb = "update"
	case http.MethodGet:
		request.Verb = "get"
		query := r.URL.Query()
		watch := query.Get("watch")
		switch {
		case query.Get("sendInitialEvents") == "true":
			request.Verb = "list"
		case watch == "1" || watch == "true":
			request.Verb = "watch"
		case request.Name == "":
			request.Verb = "list"
		}
	default:
		request.Verb = strings.ToLower(r.Method)
	}
	return request
}
