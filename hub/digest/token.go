package digest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/url"
	"time"
)

// purpose is what a token allows; one for one purpose is good for no other.
type purpose byte

const (
	confirm     purpose = 'c' // the address
	preferences purpose = 'p' // to be seen and changed
	unsubscribe purpose = 'u'
)

// How long a token lasts. To unsubscribe is possible for ever.
const (
	confirmLasts     = 48 * time.Hour
	preferencesLasts = 90 * 24 * time.Hour
)

var errToken = errors.New("the link is not one of ours, or has expired")

// macSize is the length of a token's signature in bytes.
const macSize = 16

// token is purpose, reader and end (Unix seconds, 0: never), and 16 bytes of
// their HMAC-SHA-256, in base64url.
func (d *Digest) token(p purpose, reader int64) string {
	b := []byte{byte(p)}
	b = binary.BigEndian.AppendUint64(b, uint64(reader))
	var end int64
	switch p {
	case confirm:
		end = d.now().Add(confirmLasts).Unix()
	case preferences:
		end = d.now().Add(preferencesLasts).Unix()
	}
	b = binary.BigEndian.AppendUint64(b, uint64(end))
	return base64.RawURLEncoding.EncodeToString(append(b, d.sign(b)...))
}

// readToken returns the reader whom a token is for.
func (d *Digest) readToken(p purpose, text string) (reader int64, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != 17+macSize {
		return 0, errToken
	}
	body, mac := b[:17], b[17:]
	end := int64(binary.BigEndian.Uint64(body[9:]))
	if !hmac.Equal(mac, d.sign(body)) || purpose(body[0]) != p || end != 0 && d.now().Unix() > end {
		return 0, errToken
	}
	return int64(binary.BigEndian.Uint64(body[1:])), nil
}

func (d *Digest) sign(b []byte) []byte {
	h := hmac.New(sha256.New, d.key)
	h.Write(b)
	return h.Sum(nil)[:macSize]
}

// link is an address of the page that carries a token.
func (d *Digest) link(p purpose, reader int64) string {
	path := map[purpose]string{confirm: "confirm", preferences: "preferences", unsubscribe: "unsubscribe"}[p]
	return d.config.Page + "/digest/" + path + "?t=" + url.QueryEscape(d.token(p, reader))
}
