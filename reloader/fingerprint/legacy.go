package fingerprint

import (
	"crypto/sha1" //nolint:gosec // to recognise what others have written
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// Reloader 1 marks workloads with the SHA-1 of a source's content, which lets
// anyone who may read a pod spec test guesses of a Secret. Nothing here writes
// one; it is only compared with what stands on workloads that move over.

// LegacyConfigMap returns the mark of Reloader 1 for a ConfigMap.
func LegacyConfigMap(data map[string]string, binaryData map[string][]byte) string {
	pairs := make([]string, 0, len(data)+len(binaryData))
	for key, value := range data {
		pairs = append(pairs, key+"="+value)
	}
	for key, value := range binaryData {
		pairs = append(pairs, key+"="+base64.StdEncoding.EncodeToString(value))
	}
	return legacy(pairs)
}

// LegacySecret returns the mark of Reloader 1 for a Secret.
func LegacySecret(data map[string][]byte) string {
	pairs := make([]string, 0, len(data))
	for key, value := range data {
		pairs = append(pairs, key+"="+string(value))
	}
	return legacy(pairs)
}

// IsLegacy reports whether a mark can be one of Reloader 1.
func IsLegacy(mark string) bool {
	digest, err := hex.DecodeString(mark)
	return err == nil && len(digest) == sha1.Size
}

func legacy(pairs []string) string {
	slices.Sort(pairs)
	sum := sha1.Sum([]byte(strings.Join(pairs, ";"))) //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}
