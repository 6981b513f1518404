// Package track keeps what a training run measured: a log of JSON lines for
// programs, TensorBoard events for people who use it, and a picture of the loss.
//
//	l, err := track.Create("run")              // or track.Resume("run", 1200)
//	err = l.Log(track.Record{Step: 1, Tokens: 4096, Seconds: 0.8, TrainLoss: 8.3})
//	err = l.Close()
//	records, err := track.ReadLog("run/log.jsonl")
//	err = track.Draw(w, "my run", track.ByTokens, track.LossCurves(records)...)
//
// A run that is killed leaves at most one half-written line, which readers
// pass over. Resume cuts it off, and with it what was logged after the
// checkpoint that the run goes on from, so that the log of a resumed run reads
// like that of an unbroken one.
package track
