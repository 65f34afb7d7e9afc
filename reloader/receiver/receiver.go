package receiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultTimeout is how long one post may take.
const DefaultTimeout = 10 * time.Second

// Options of a Receiver.
type Options struct {
	// URL to post to, http or https. Required.
	URL string
	// Proxy on the way there, http, https or socks5; default what the
	// environment says.
	Proxy string
	// Timeout of one post; default DefaultTimeout.
	Timeout time.Duration
}

// Receiver is an endpoint that is posted to. It is safe for concurrent use.
type Receiver struct {
	url     *url.URL
	client  *http.Client
	timeout time.Duration
}

// New returns a Receiver. It makes no request yet. Errors name neither the URL
// nor the proxy.
func New(o Options) (*Receiver, error) {
	to, err := parse(o.URL, "http", "https")
	if err != nil {
		return nil, fmt.Errorf("the URL %w", err)
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     time.Minute,
	}
	if o.Proxy != "" {
		proxy, err := parse(o.Proxy, "http", "https", "socks5")
		if err != nil {
			return nil, fmt.Errorf("the proxy %w", err)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return &Receiver{
		url: to,
		client: &http.Client{
			Transport: transport,
			// A redirect would turn the POST into a GET, or send it to an
			// unintended host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		timeout: o.Timeout,
	}, nil
}

// parse reads a URL. The errors of package url quote it, or parts of it.
func parse(text string, schemes ...string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("is missing")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("cannot be read: write one such as https://HOST/PATH")
	}
	for _, scheme := range schemes {
		if u.Scheme == scheme {
			if u.Hostname() == "" {
				return nil, errors.New("names no host: write one such as " + scheme + "://HOST/PATH")
			}
			return u, nil
		}
	}
	return nil, fmt.Errorf("does not begin with %s://", strings.Join(schemes, ":// or "))
}

// String is where the posts go, as far as it is no secret.
func (r *Receiver) String() string { return r.url.Scheme + "://" + r.url.Host }

// Close closes connections that are not in use.
func (r *Receiver) Close() { r.client.CloseIdleConnections() }

// StatusError is an answer that is not 2xx.
type StatusError struct {
	Code int
}

// Error implements error.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("answered %d %s", e.Code, http.StatusText(e.Code))
	if e.Code >= 300 && e.Code < 400 {
		text += " (redirects are not followed: name the URL that it leads to)"
	}
	return text
}

// Refused reports whether an error means that posting the same again is useless
// until the configuration or the receiver has changed.
func Refused(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	if !ok {
		return false
	}
	return status.Code < 500 && status.Code != http.StatusRequestTimeout && status.Code != http.StatusTooManyRequests
}

// Post posts the body once. nil means that the answer was 2xx. After any other
// end the body may have arrived all the same, unless Refused.
func (r *Receiver) Post(ctx context.Context, contentType string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post to %s: %w", r, withoutURL(err))
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "reloader")
	answer, err := r.client.Do(request)
	if err != nil {
		return fmt.Errorf("post to %s: %w", r, withoutURL(err))
	}
	defer answer.Body.Close()
	// A short answer is read to its end, so that the connection can be used
	// again.
	_, _ = io.CopyN(io.Discard, answer.Body, 4<<10)
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("post to %s: %w", r, &StatusError{answer.StatusCode})
	}
	return nil
}

// withoutURL takes the URL off an error of package http.
func withoutURL(err error) error {
	if of, ok := errors.AsType[*url.Error](err); ok {
		return of.Err
	}
	return err
}
