package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// A stored shard is, numbers big-endian:
//
//	magic      8 bytes
//	format     1 byte
//	shard      1 byte, its number
//	shards     1 byte, how many there are
//	entries    4 bytes, how many
//	key       16 bytes, a hash of the key's ID
//	writer     8 bytes, the tag of the version, and random per Store
//	flushes    8 bytes, how often the shard was written
//	written    8 bytes, milliseconds since 1970
//	then the entries, 16 bytes of ID and 25 of packed Entry each, by ascending ID,
//	and 16 bytes of a SHA-256 over all that.
const (
	magic        = "RLDRCKPT"
	format       = 1
	headerSize   = len(magic) + 3 + 4 + keySize + writerSize + 8 + 8
	keySize      = 16
	writerSize   = 8
	recordSize   = idSize + packedSize
	checksumSize = 16
	// writerTag begins the writer of every version that seals its marks; that of
	// version 1 is random as a whole.
	writerTag = "v2:"
	keyTag    = "reloader/v1/checkpoint/key"

	// objectSize is what the API server allows all data of a ConfigMap.
	objectSize = 1 << 20
	// asideSize is kept free for bytes that were set aside.
	asideSize  = 64 << 10
	storedSize = objectSize - asideSize
	maxEntries = (storedSize - headerSize - checksumSize) / recordSize
)

// Reasons for which stored bytes are set aside.
var (
	errForeign     = errors.New("it holds something that is no checkpoint")
	errDamaged     = errors.New("it is damaged or cut off")
	errTooLarge    = errors.New("it is too large")
	errOtherFormat = errors.New("it has the format of another version of Reloader")
	errOtherShard  = errors.New("it holds another shard")
	errOtherKey    = errors.New("it was made with another fingerprint key, or another version of fingerprints")
)

// header says where and when stored entries come from.
type header struct {
	shard   int
	key     [keySize]byte
	writer  [writerSize]byte
	flushes uint64
	written time.Time
}

// keyOf returns the stored form of a key ID.
func keyOf(keyID string) [keySize]byte {
	sum := sha256.Sum256([]byte(keyTag + keyID))
	return [keySize]byte(sum[:])
}

type record [recordSize]byte

// recordsOf returns the entries in no order.
func recordsOf(entries map[id]packed) []record {
	records := make([]record, 0, len(entries))
	for i, p := range entries {
		var r record
		copy(r[:], i[:])
		copy(r[idSize:], p[:])
		records = append(records, r)
	}
	return records
}

// encode returns the stored form of at most maxEntries records; it sorts them.
func encode(h header, records []record) []byte {
	slices.SortFunc(records, func(a, b record) int { return bytes.Compare(a[:idSize], b[:idSize]) })
	b := make([]byte, 0, headerSize+len(records)*recordSize+checksumSize)
	b = append(b, magic...)
	b = append(b, format, byte(h.shard), Shards)               //nolint:gosec // fewer than Shards
	b = binary.BigEndian.AppendUint32(b, uint32(len(records))) //nolint:gosec // at most maxEntries
	b = append(b, h.key[:]...)
	b = append(b, h.writer[:]...)
	b = binary.BigEndian.AppendUint64(b, h.flushes)
	b = binary.BigEndian.AppendUint64(b, uint64(h.written.UnixMilli()))
	for i := range records {
		b = append(b, records[i][:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:checksumSize]...)
}

// decode is the inverse of encode for the shard of that number and key. It
// accepts nothing that encode has not made. With errOtherKey and errOtherShard
// the header is good, with any other error nothing is.
func decode(stored []byte, shard int, key [keySize]byte) (header, map[id]packed, error) {
	h, records, err := unwrap(stored)
	switch {
	case err != nil:
		return header{}, nil, err
	case h.shard != shard:
		return h, nil, errOtherShard
	case h.key != key:
		return h, nil, errOtherKey
	}
	entries := make(map[id]packed, len(records)/recordSize)
	var last id
	for b := range slices.Chunk(records, recordSize) {
		i, p := id(b[:idSize]), packed(b[idSize:])
		if i.shard() != shard || !p.sound() || len(entries) > 0 && bytes.Compare(i[:], last[:]) <= 0 {
			return header{}, nil, errDamaged
		}
		entries[i], last = p, i
	}
	return h, entries, nil
}

// unwrap checks the whole and returns its parts.
func unwrap(stored []byte) (h header, records []byte, err error) {
	switch {
	case len(stored) > storedSize:
		return h, nil, errTooLarge
	case !bytes.HasPrefix(stored, []byte(magic)):
		return h, nil, errForeign
	case len(stored) > len(magic) && stored[len(magic)] != format:
		return h, nil, errOtherFormat
	case len(stored) < headerSize+checksumSize:
		return h, nil, errDamaged
	}
	body, checksum := stored[:len(stored)-checksumSize], stored[len(stored)-checksumSize:]
	sum := sha256.Sum256(body)
	if !bytes.Equal(checksum, sum[:checksumSize]) {
		return h, nil, errDamaged
	}
	b, records := body[len(magic)+1:headerSize], body[headerSize:]
	shard, shards, n := int(b[0]), b[1], binary.BigEndian.Uint32(b[2:])
	if shard >= Shards || shards != Shards || uint64(n)*uint64(recordSize) != uint64(len(records)) {
		return h, nil, errDamaged
	}
	b = b[6:]
	h.shard = shard
	b = b[copy(h.key[:], b):]
	b = b[copy(h.writer[:], b):]
	h.flushes = binary.BigEndian.Uint64(b)
	h.written = time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:]))) //nolint:gosec // comes back the same
	return h, records, nil
}
