package lm

import (
	"io"
	"path/filepath"

	"hasten/engine/atomicfile"
	"hasten/learn/track"
)

// curveFile is the picture of a run's losses.
const curveFile = "loss.svg"

// openLog begins the log of a run, or goes on with that of a resumed one.
func openLog(dir string, resumed bool, step int) (*track.Logger, error) {
	if resumed {
		return track.Resume(dir, int64(step))
	}
	return track.Create(dir)
}

// drawCurve draws the losses in the log of a run.
func drawCurve(dir, title string) error {
	records, err := track.ReadLog(filepath.Join(dir, track.LogName))
	if err != nil || len(records) == 0 {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, curveFile), func(w io.Writer) error {
		return track.Draw(w, title, track.ByTokens, track.LossCurves(records)...)
	})
}
