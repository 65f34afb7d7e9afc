package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/fingerprint"
)

// Entry describes the content of one source that has been rolled out to all its
// workloads.
type Entry struct {
	Fingerprint fingerprint.Fingerprint
	// Version is the resource version at which the source had that content.
	Version uint64
}

const (
	idSize     = 16
	digestSize = 16
	packedSize = 1 + digestSize + 8
	idTag      = "reloader/v1/checkpoint/source"
)

// id stands for a source: a hash of kind, namespace and name.
type id [idSize]byte

func idOf(s reloader.Source) id {
	// Larger than the tag and the longest names that the API server accepts.
	var buf [512]byte
	b := append(buf[:0], idTag...)
	for _, part := range [...]string{string(s.Kind), s.Namespace, s.Name} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	sum := sha256.Sum256(b)
	return id(sum[:idSize])
}

// shard is the number of the shard that the source belongs to.
func (i id) shard() int { return int(i[0]) % Shards }

// packed is an Entry in its stored form: the version of the fingerprint, its
// digest, and the resource version.
type packed [packedSize]byte

// pack reports false for a fingerprint that is not "v", a number from 1 to 255,
// "-" and 32 lower-case hexadecimal digits.
func pack(e Entry) (packed, bool) {
	var p packed
	number, digest, _ := strings.Cut(strings.TrimPrefix(string(e.Fingerprint), "v"), "-")
	version, err := strconv.ParseUint(number, 10, 8)
	if err != nil || len(digest) != 2*digestSize {
		return packed{}, false
	}
	p[0] = byte(version)
	if _, err := hex.Decode(p[1:1+digestSize], []byte(digest)); err != nil {
		return packed{}, false
	}
	binary.BigEndian.PutUint64(p[1+digestSize:], e.Version)
	var buf [48]byte
	// Leading zeros, capitals and the like would not come back as they were.
	if !p.sound() || string(p.appendFingerprint(buf[:0])) != string(e.Fingerprint) {
		return packed{}, false
	}
	return p, true
}

// sound reports whether pack can have made p.
func (p packed) sound() bool { return p[0] != 0 }

func (p packed) unpack() Entry {
	var buf [48]byte
	return Entry{
		Fingerprint: fingerprint.Fingerprint(p.appendFingerprint(buf[:0])),
		Version:     binary.BigEndian.Uint64(p[1+digestSize:]),
	}
}

func (p packed) appendFingerprint(b []byte) []byte {
	b = append(b, 'v')
	b = strconv.AppendUint(b, uint64(p[0]), 10)
	b = append(b, '-')
	return hex.AppendEncode(b, p[1:1+digestSize])
}
