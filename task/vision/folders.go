package vision

import (
	"cmp"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // formats of image.Decode
	_ "image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readFolders reads a directory with a folder for each class, or with such in
// folders train and valid.
func readFolders(dir string, o *LoadOptions) (*Dataset, error) {
	names, err := subfolders(dir)
	if err != nil {
		return nil, err
	}
	var d Dataset
	train := dir
	if slices.Contains(names, "train") {
		train = filepath.Join(dir, "train")
		if names, err = subfolders(train); err != nil {
			return nil, err
		}
	}
	d.Classes = names
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, errNoImages)
	}
	if d.Train, err = readClasses(train, d.Classes, o, Images{}); err != nil {
		return nil, err
	}
	if train == dir {
		return &d, nil
	}
	for _, name := range []string{"valid", "val", "test"} {
		valid := filepath.Join(dir, name)
		if _, err := os.Stat(valid); err == nil {
			d.Valid, err = readClasses(valid, d.Classes, o, d.Train)
			return &d, err
		}
	}
	return &d, nil
}

// readClasses reads the pictures of each class, those of different classes in
// turns: so that the first of them are of every class. like has the size they
// must have, if it is known.
func readClasses(dir string, classes []string, o *LoadOptions, like Images) (Images, error) {
	type picture struct {
		path         string
		label, index int
	}
	var all []picture
	for label, class := range classes {
		entries, err := os.ReadDir(filepath.Join(dir, class))
		if err != nil {
			return Images{}, err
		}
		n := 0
		for _, e := range entries {
			switch strings.ToLower(filepath.Ext(e.Name())) {
			case ".png", ".jpg", ".jpeg":
				all = append(all, picture{filepath.Join(dir, class, e.Name()), label, n})
				n++
			}
		}
	}
	if len(all) == 0 {
		return Images{}, fmt.Errorf("%s: %w", dir, errNoImages)
	}
	slices.SortStableFunc(all, func(a, b picture) int { return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.label, b.label)) })
	m := Images{H: like.H, W: like.W, C: like.C}
	for _, p := range all {
		img, err := decode(p.path)
		if err != nil {
			return Images{}, err
		}
		if m.H == 0 {
			m.H, m.W, m.C = img.Bounds().Dy(), img.Bounds().Dx(), 3
			if o.Size > 0 {
				m.H, m.W = o.Size, o.Size
			}
			if grey(img) {
				m.C = 1
			}
		}
		if b := img.Bounds(); o.Size == 0 && (b.Dy() != m.H || b.Dx() != m.W) {
			return Images{}, fmt.Errorf("%s: %d×%d pixels, others have %d×%d; set data.size to scale all to one size", p.path, b.Dy(), b.Dx(), m.H, m.W)
		}
		m.Pixels = appendScaled(m.Pixels, img, m.H, m.W, m.C)
		m.Labels = append(m.Labels, int32(p.label))
	}
	return m, nil
}

func decode(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err == nil && img.Bounds().Empty() {
		err = fmt.Errorf("an image without pixels")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}

// grey tells whether a picture is stored without colour.
func grey(img image.Image) bool {
	switch img.ColorModel() {
	case color.GrayModel, color.Gray16Model:
		return true
	}
	return false
}

// appendScaled appends a picture as [h, w, c] bytes. One of another size is
// scaled by the mean of what each new pixel covers, or the nearest pixel where
// it covers less than one.
func appendScaled(dst []byte, img image.Image, h, w, c int) []byte {
	b := img.Bounds()
	for y := range h {
		y0, y1 := span(y, h, b.Dy())
		for x := range w {
			x0, x1 := span(x, w, b.Dx())
			var sum [3]int
			for yy := y0; yy < y1; yy++ {
				for xx := x0; xx < x1; xx++ {
					p := img.At(b.Min.X+xx, b.Min.Y+yy)
					if c == 1 {
						sum[0] += int(color.GrayModel.Convert(p).(color.Gray).Y)
						continue
					}
					r, g, b, _ := p.RGBA()
					sum[0], sum[1], sum[2] = sum[0]+int(r>>8), sum[1]+int(g>>8), sum[2]+int(b>>8)
				}
			}
			n := (y1 - y0) * (x1 - x0)
			for k := range c {
				dst = append(dst, byte((sum[k]+n/2)/n))
			}
		}
	}
	return dst
}

// span is the range of the from pixels that pixel i of to covers, at least one.
func span(i, to, from int) (lo, hi int) {
	lo = i * from / to
	return lo, max(lo+1, (i+1)*from/to)
}
