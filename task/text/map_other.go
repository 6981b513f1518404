//go:build !unix

package text

// contents is a file's bytes. done gives them back.
func contents(path string) (data []byte, done func(), err error) { return wholeFile(path) }
