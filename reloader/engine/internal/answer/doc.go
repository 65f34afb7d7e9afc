// Package answer reads what the API server answers in bounded memory.
//
// Objects belong to tenants, and so do their sizes. A list is therefore read
// in pages that are bounded in bytes: a page that turns out to be longer is
// given up and asked for again, shorter. No list of decoded objects is ever in
// memory: each object is decoded by itself and handed on, and is garbage when
// the next one comes. Long answers take turns.
//
// It owns the bounds and the outer form of answers, in protobuf and in JSON.
// It does not know what is in the objects, and tries no failed request again.
// Watches are client-go's, which holds one event at a time.
package answer
