// Package atomicfile writes files so that a crash, a full disk or a kill at
// any moment leaves either the old content or the new, never a mixture.
//
//	atomicfile.WriteFile("run/config.json", write)     one file
//	atomicfile.WriteDir("run/ckpt/step-001200", fill)  a checkpoint: several files, all or none
//	atomicfile.Newest("run/ckpt")                      the newest checkpoint that verifies
//	atomicfile.Keep("run/ckpt", 3)                     delete those before the third newest
//	atomicfile.Acquire("run")                          one writer per directory
//
// Content goes to a temporary name in the same directory, is synced to the
// disk, and only then takes its name; the directory is synced last, so that
// the name too survives a power cut.
//
// A checkpoint carries manifest.json: the size and the CRC-32C of each file.
// The check is against torn and decayed files, not against an adversary (who
// could rewrite the manifest as well), so it uses the checksum for which
// processors have an instruction: it runs at memory speed, where SHA-256
// would cost seconds for each gigabyte of a checkpoint.
package atomicfile
