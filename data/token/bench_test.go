package token

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hasten/data/source"
)

// goSource is up to 32 MB of the Go toolchain's own source.
func goSource(b *testing.B) (docs [][]byte, size int64) {
	b.Helper()
	root, err := source.FindGo()
	if err != nil {
		b.Skip("no Go source: ", err)
	}
	err = filepath.WalkDir(filepath.Join(root, "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || size > 32e6 {
			return err
		}
		data, err := os.ReadFile(path)
		docs, size = append(docs, data), size+int64(len(data))
		return err
	})
	if err != nil {
		b.Skip("no Go source: ", err)
	}
	return docs, size
}

func BenchmarkTrain4096(b *testing.B) {
	docs, _ := goSource(b)
	for b.Loop() {
		if _, err := TrainBPE(context.Background(), Documents(docs), 4096, TrainOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	docs, size := goSource(b)
	for name, expr := range map[string]string{"code": CodePattern, "gpt2": GPT2Pattern, "llama3": Llama3Pattern} {
		k := train(b, docs, 4096, TrainOptions{Pattern: expr})
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			var ids []int32
			tokens := 0
			for b.Loop() {
				tokens = 0
				for _, d := range docs {
					ids = k.Encode(ids[:0], d)
					tokens += len(ids)
				}
			}
			b.ReportMetric(float64(size)/float64(tokens), "bytes/token")
		})
	}
}

func BenchmarkEncodeAll(b *testing.B) {
	docs, size := goSource(b)
	k := train(b, docs, 4096, TrainOptions{})
	b.SetBytes(size)
	for b.Loop() {
		EncodeAll(k, docs)
	}
}

func BenchmarkDecode(b *testing.B) {
	docs, size := goSource(b)
	k := train(b, docs, 4096, TrainOptions{})
	ids := EncodeAll(k, docs)
	b.SetBytes(size)
	var text []byte
	for b.Loop() {
		for _, d := range ids {
			text = k.Decode(text[:0], d)
		}
	}
}
