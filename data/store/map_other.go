//go:build !unix && !windows

package store

import (
	"errors"
	"os"
)

// mapFile has nothing to map with here; Tokens then reads with ReadAt.
func mapFile(*os.File, int64) ([]byte, func() error, error) {
	return nil, nil, errors.ErrUnsupported
}
