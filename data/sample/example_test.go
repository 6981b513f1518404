package sample_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"hasten/data/sample"
	"hasten/data/source"
	"hasten/data/store"
)

// bytesOf is the plainest tokeniser: a token is a byte.
type bytesOf struct{}

func (bytesOf) Encode(dst []int32, text []byte) []int32 {
	for _, b := range text {
		dst = append(dst, int32(b))
	}
	return dst
}

// From a text file to the batches of a training loop.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "alphabet.txt")
	if err := os.WriteFile(path, []byte("abcdefghijklmnopqrstuvwxyz\n"), 0o644); err != nil {
		log.Fatal(err)
	}

	text, err := source.Open(path, source.Options{})
	if err != nil {
		log.Fatal(err)
	}
	data, err := store.Load(text, bytesOf{}, store.LoadOptions{Vocab: 256, EOS: -1})
	if err != nil {
		log.Fatal(err)
	}
	defer data.Close()
	windows, err := sample.NewWindows(data.Train, sample.Sequential{}, 2, 4)
	if err != nil {
		log.Fatal(err)
	}
	batches := sample.NewLoader(windows, 2)
	defer batches.Close()

	for range 2 {
		b, err := batches.Next()
		if err != nil {
			log.Fatal(err)
		}
		for r := range b.B {
			fmt.Printf("%c → %c\n", b.Tokens[r*b.T:(r+1)*b.T], b.Targets[r*b.T:(r+1)*b.T])
		}
	}
	// Output:
	// [a b c d] → [b c d e]
	// [e f g h] → [f g h i]
	// [i j k l] → [j k l m]
	// [m n o p] → [n o p q]
}
