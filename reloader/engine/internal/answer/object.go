package answer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// Object is one object as it was sent. It is valid only until the function that
// it was given to returns.
type Object struct {
	raw []byte
	// json is true if raw is JSON, and no protobuf.
	json bool
}

// JSON returns the object as JSON, if it was sent so.
func (o Object) JSON() ([]byte, error) {
	if !o.json {
		return nil, ErrUndecodable
	}
	return o.raw, nil
}

// Into decodes the object. Nothing of what it decodes into points into the
// answer.
func (o Object) Into(object any) error {
	var err error
	switch into := object.(type) {
	case *unstructured.Unstructured:
		if !o.json {
			return ErrUndecodable
		}
		err = utiljson.Unmarshal(o.raw, &into.Object)
	case interface{ Unmarshal(raw []byte) error }:
		if o.json {
			err = json.Unmarshal(o.raw, object)
		} else {
			err = into.Unmarshal(o.raw)
		}
	default:
		if !o.json {
			return ErrUndecodable
		}
		err = json.Unmarshal(o.raw, object)
	}
	if err != nil {
		return ErrUndecodable
	}
	// The one in a list has no type, and the one in protobuf neither.
	if typed, ok := object.(interface {
		SetGroupVersionKind(gvk schema.GroupVersionKind)
	}); ok {
		if _, custom := object.(*unstructured.Unstructured); !custom {
			typed.SetGroupVersionKind(schema.GroupVersionKind{})
		}
	}
	return nil
}

// magic is how an answer in protobuf begins.
const magic = "k8s\x00"

// object hands the one object of a body to use.
func (b *body) object(use func(Object) error) error {
	rest, ok := bytes.CutPrefix(b.bytes, []byte(magic))
	if !ok {
		return use(Object{raw: b.bytes, json: true})
	}
	raw, err := unwrap(rest)
	if err != nil {
		return err
	}
	return use(Object{raw: raw})
}

// list hands the objects of a list to use and returns the list's metadata. Of a
// body that breaks off it finds what it can before the error.
func (b *body) list(use func(Object) error) (metav1.ListMeta, error) {
	if rest, ok := bytes.CutPrefix(b.bytes, []byte(magic)); ok {
		return protobufList(rest, use)
	}
	return jsonList(b.bytes, use)
}

// unwrap returns the field raw of a runtime.Unknown, which is the envelope of
// every answer in protobuf, as far as it is there.
func unwrap(envelope []byte) (raw []byte, err error) {
	err = fields(envelope, func(number uint64, value []byte, _ bool) error {
		if number == 2 {
			raw = value
		}
		return nil
	})
	return raw, err
}

// protobufList relies on what all lists of Kubernetes have in common: their
// metadata are field 1, their items field 2.
func protobufList(envelope []byte, use func(Object) error) (meta metav1.ListMeta, err error) {
	list, broken := unwrap(envelope)
	err = fields(list, func(number uint64, value []byte, whole bool) error {
		switch {
		case !whole:
			return nil
		case number == 1:
			if meta.Unmarshal(value) != nil {
				return ErrUndecodable
			}
		case number == 2:
			return use(Object{raw: value})
		}
		return nil
	})
	if err == nil {
		err = broken
	}
	return meta, err
}

// fields calls use for each field of a message that has a length. A value that
// breaks off is not whole, and the error comes after it.
func fields(message []byte, use func(number uint64, value []byte, whole bool) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return ErrUndecodable
		}
		message = message[n:]
		length := uint64(0)
		switch tag & 7 {
		case 0: // a number
			if _, n = binary.Uvarint(message); n <= 0 {
				return ErrUndecodable
			}
			length = uint64(n)
		case 1:
			length = 8
		case 2:
			if length, n = binary.Uvarint(message); n <= 0 {
				return ErrUndecodable
			}
			message = message[n:]
		case 5:
			length = 4
		default:
			return ErrUndecodable
		}
		whole := length <= uint64(len(message))
		value := message[:min(length, uint64(len(message)))]
		if tag&7 == 2 {
			if err := use(tag>>3, value, whole); err != nil {
				return err
			}
		}
		if !whole {
			return ErrUndecodable
		}
		message = message[length:]
	}
	return nil
}

func jsonList(list []byte, use func(Object) error) (meta metav1.ListMeta, err error) {
	d := json.NewDecoder(bytes.NewReader(list))
	if !opens(d, '{') {
		return meta, ErrUndecodable
	}
	var raw json.RawMessage
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return meta, ErrUndecodable
		}
		if name == "items" {
			if err := jsonItems(d, &raw, use); err != nil {
				return meta, err
			}
			continue
		}
		raw = raw[:0]
		if d.Decode(&raw) != nil || name == "metadata" && json.Unmarshal(raw, &meta) != nil {
			return meta, ErrUndecodable
		}
	}
	if _, err := d.Token(); err != nil {
		return meta, ErrUndecodable
	}
	return meta, nil
}

// jsonItems hands the items to use; an empty list may be null.
func jsonItems(d *json.Decoder, raw *json.RawMessage, use func(Object) error) error {
	switch open, err := d.Token(); {
	case err != nil:
		return ErrUndecodable
	case open == nil:
		return nil
	case open != json.Delim('['):
		return ErrUndecodable
	}
	for d.More() {
		*raw = (*raw)[:0]
		if d.Decode(raw) != nil {
			return ErrUndecodable
		}
		if err := use(Object{raw: *raw, json: true}); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return ErrUndecodable
	}
	return nil
}

func opens(d *json.Decoder, delim json.Delim) bool {
	token, err := d.Token()
	return err == nil && token == delim
}
