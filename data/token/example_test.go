package token_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"hasten/data/token"
)

func Example() {
	docs := [][]byte{[]byte(strings.Repeat("if err != nil {\n\treturn err\n}\n", 10))}
	t, err := token.TrainBPE(context.Background(), token.Documents(docs), 300, token.TrainOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ids := t.Encode(nil, []byte("if err != nil {\n\treturn nil, err\n}"))
	var parts []string
	for _, id := range ids {
		text, _ := t.Token(id)
		parts = append(parts, string(text))
	}
	fmt.Printf("%q\n%q\n", parts, t.Decode(nil, ids))
	// Output:
	// ["if" " err" " !=" " nil" " {\n\t" "return" " nil" "," " err" "\n" "}"]
	// "if err != nil {\n\treturn nil, err\n}"
}

// A setting of a recipe names the tokenizer.
func ExampleParse() {
	spec, err := token.Parse("bpe:1024")
	if err != nil {
		fmt.Println(err)
		return
	}
	docs := [][]byte{[]byte("all the text there is, all the text")}
	t, err := spec.Tokenizer(context.Background(), token.Documents(docs))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(spec, "asks for", spec.Vocab, "tokens; this text has", t.VocabSize())
	// Output: bpe:1024 asks for 1024 tokens; this text has 265
}

// Marks around a sequence, as a model of the BERT family wants them.
func ExamplePipeline_Frame() {
	const file = `{
		"pre_tokenizer": {"type": "BertPreTokenizer"},
		"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
		"model": {"type": "WordPiece", "unk_token": "[UNK]",
			"vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "fast": 3, "##er": 4, "now": 5}}}`
	t, err := token.Read([]byte(file))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(t.Frame(t.Encode(nil, []byte("faster")), t.Encode(nil, []byte("now"))))
	// Output: [1 3 4 2 5 2] [0 0 0 0 1 1]
}

func ExampleOpen() {
	if _, err := token.Open("no/such/tokenizer.json"); os.IsNotExist(err) {
		fmt.Println("not there")
	}
	// Output: not there
}
