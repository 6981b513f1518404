// Package source says where text comes from: the Go toolchain's own source, a
// user's files and directories, or standard input, read as a stream of
// documents that are already divided into training and validation.
//
//	file, directory, "-", "gosrc" ──Open──▶ *Source ──Documents──▶ Document, Document, …
//
// Start with Open. Memory stays constant whatever the size of the data: a long
// text arrives in pieces of about a mebibyte. Everything malformed is an error
// that names the file, the line and the mend.
//
// The package also keeps the table of data sets known by name (Catalogue) and
// reads the IDX files of MNIST and its kin (ReadIDX).
package source

// Document is one text, or one piece of a long one.
type Document struct {
	Name  string // file, relative to the directory that was opened, with slashes
	Line  int    // first line of Text in that file, or the row in a Parquet file; counted from 1
	Text  []byte // never empty, valid UTF-8; the receiver may keep it
	Valid bool   // belongs to validation, not to training
	More  bool   // the next Document goes on with this same text
}
