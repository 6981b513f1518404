package job

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"hasten/lab/result"
)

// measure does what the name says.
func measure(ctx context.Context, slug string, quick bool, progress func(string)) (result.Result, error) {
	progress("begun")
	switch slug {
	case "fails":
		return result.Result{}, errors.New("the data is not there")
	case "talks":
		for i := range 1000 {
			progress(fmt.Sprint("line ", i))
		}
	case "hangs":
		<-ctx.Done()
		progress("stopping in good order")
		return result.Result{}, ctx.Err()
	}
	return result.Result{Slug: slug, Quick: quick}, nil
}

// until waits for a state.
func until(t *testing.T, r *Runner, reached func(*State) bool) State {
	t.Helper()
	for range 30000 {
		if s := r.State(); reached(&s) {
			return s
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("it remains in %+v", r.State())
	return State{}
}

func over(s *State) bool { return !s.Active() }

func TestMeasurements(t *testing.T) {
	r := New(measure)
	defer r.Close()
	r.Stop() // nothing is under way
	for _, q := range []struct {
		slug  string
		phase Phase
		err   string
		lines int
	}{
		{"good", Done, "", 1}, {"fails", Failed, "the data is not there", 1}, {"talks", Done, "", maxLines}, {"good", Done, "", 1},
	} {
		if err := r.Start(q.slug, true); err != nil {
			t.Fatal(err)
		}
		s := until(t, r, over)
		if s.Phase != q.phase || s.Error != q.err || s.Slug != q.slug || !s.Quick || len(s.Lines) != q.lines || (s.Result != nil) != (q.phase == Done) {
			t.Errorf("%s: %+v", q.slug, s)
		}
		if q.slug == "talks" && (s.Lines[0] != "line 800" || s.Lines[maxLines-1] != "line 999") {
			t.Errorf("lines %q to %q", s.Lines[0], s.Lines[maxLines-1])
		}
	}
}

func TestOneAtATimeAndStopped(t *testing.T) {
	r := New(measure)
	if err := r.Start("hangs", false); err != nil {
		t.Fatal(err)
	}
	if err := r.Start("good", false); err != ErrBusy {
		t.Errorf("a second one: %v", err)
	}
	r.Stop()
	r.Stop()
	s := until(t, r, over)
	if s.Phase != Stopped || s.Error != "" || s.Lines[len(s.Lines)-1] != "stopping in good order" {
		t.Errorf("%+v", s)
	}
	if err := r.Start("hangs", false); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if s := r.State(); s.Phase != Stopped {
		t.Errorf("after Close: %+v", s)
	}
}
