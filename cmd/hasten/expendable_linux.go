package main

import "os"

// expendable makes the system end this process first when memory runs out, so
// that an experiment does not take its parent with it. Where that is not
// allowed, things stay as they are.
func expendable() {
	os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
}
