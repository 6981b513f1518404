//go:build !unix

package lm

const childLimit = "HASTEN_TEST_LIMIT"

func limitFiles(string) {}
