package vision

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"hasten/data/source"
	"hasten/engine/par"
)

// Images is a set of labelled pictures of one size, in memory.
type Images struct {
	H, W, C int
	Pixels  []byte  // [N, H, W, C]
	Labels  []int32 // [N]
}

// Len is the number of pictures.
func (m *Images) Len() int { return len(m.Labels) }

// Size is the number of values in a picture.
func (m *Images) Size() int { return m.H * m.W * m.C }

// Dataset is what a run learns from and is measured on.
type Dataset struct {
	Train, Valid Images
	Classes      []string  // names by label
	Mean, Std    []float32 // [C] of the training pictures, with pixels from 0 to 1
}

// LoadOptions say how Load reads.
type LoadOptions struct {
	Valid    string  // where the validation data is; empty: with the data, or a part of it
	Fraction float64 // share of the data for validation, where it names none
	Limit    int     // use only the first so many training pictures; 0: all
	Size     int     // side to which pictures from folders are scaled; 0: they are of one size already
}

// Load reads the pictures that spec names: fashion, mnist, a directory of IDX
// files, or a directory with a folder of PNG and JPEG pictures for each class.
//
// IDX files are named as MNIST's: train-images-idx3-ubyte and
// train-labels-idx1-ubyte, with t10k- (or test-, valid-) for validation, plain
// or compressed. Folders of classes may lie in folders train and valid (or val,
// test). Data that holds no validation pictures is divided: picture i of n (by
// file name) is for validation where SHA-256(i) is below the fraction.
func Load(spec string, o LoadOptions) (*Dataset, error) {
	dir := spec
	if named, ok := source.Lookup(spec); ok {
		var err error
		if dir, err = named.Find(); err != nil {
			return nil, err
		}
		if named.Kind != "images" {
			return nil, fmt.Errorf("data set %s holds %s, no images", spec, named.Kind)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	d, err := read(dir, &o)
	if err != nil {
		return nil, err
	}
	if o.Valid != "" {
		if err := d.readValid(o); err != nil {
			return nil, err
		}
	}
	if d.Valid.Len() == 0 && o.Fraction > 0 {
		d.divide(o.Fraction)
	}
	if o.Limit > 0 && o.Limit < d.Train.Len() {
		d.Train.Pixels, d.Train.Labels = d.Train.Pixels[:o.Limit*d.Train.Size()], d.Train.Labels[:o.Limit]
	}
	if d.Train.Len() == 0 {
		return nil, fmt.Errorf("%s: no training images", dir)
	}
	d.normalise()
	return d, nil
}

// read reads a directory in whichever layout it has.
func read(dir string, o *LoadOptions) (*Dataset, error) {
	found, err := findIDX(dir, "train")
	if err != nil {
		return nil, err
	}
	if found != nil {
		return readIDXs(dir, found)
	}
	return readFolders(dir, o)
}

// readValid reads validation data from a place of its own.
func (d *Dataset) readValid(o LoadOptions) error {
	v, err := read(o.Valid, &LoadOptions{Size: cmp.Or(o.Size, 0)})
	if err != nil {
		return fmt.Errorf("validation: %w", err)
	}
	if v.Train.H != d.Train.H || v.Train.W != d.Train.W || v.Train.C != d.Train.C || !slices.Equal(v.Classes, d.Classes) {
		return fmt.Errorf("validation: %s holds %d classes of %d×%d×%d, the training data %d of %d×%d×%d", o.Valid,
			len(v.Classes), v.Train.H, v.Train.W, v.Train.C, len(d.Classes), d.Train.H, d.Train.W, d.Train.C)
	}
	d.Valid = v.Train
	return nil
}

// idxFiles are the pictures and the labels of one part of a data set.
type idxFiles struct{ images, labels string }

// findIDX finds the IDX files of a part, whose name begins with prefix; nil
// where there are none.
func findIDX(dir, prefix string) (*idxFiles, error) {
	find := func(what string) (string, error) {
		found, err := filepath.Glob(filepath.Join(dir, prefix+"-"+what+"*"))
		if err != nil || len(found) == 0 {
			return "", err
		}
		return found[0], nil
	}
	images, err := find("images")
	if err != nil || images == "" {
		return nil, err
	}
	labels, err := find("labels")
	if err == nil && labels == "" {
		err = fmt.Errorf("%s: there is no %s-labels file beside it", images, prefix)
	}
	return &idxFiles{images, labels}, err
}

// readIDXs reads a directory of IDX files.
func readIDXs(dir string, train *idxFiles) (*Dataset, error) {
	var d Dataset
	var err error
	if d.Train, err = readIDX(train); err != nil {
		return nil, err
	}
	for _, prefix := range []string{"t10k", "test", "valid"} {
		found, err := findIDX(dir, prefix)
		if err != nil {
			return nil, err
		}
		if found == nil {
			continue
		}
		if d.Valid, err = readIDX(found); err != nil {
			return nil, err
		}
		if d.Valid.H != d.Train.H || d.Valid.W != d.Train.W {
			return nil, fmt.Errorf("%s: images of %d×%d, those for training have %d×%d", found.images, d.Valid.H, d.Valid.W, d.Train.H, d.Train.W)
		}
		break
	}
	classes := int32(0)
	for _, labels := range [][]int32{d.Train.Labels, d.Valid.Labels} {
		for _, l := range labels {
			classes = max(classes, l+1)
		}
	}
	for l := range classes {
		d.Classes = append(d.Classes, fmt.Sprint(l))
	}
	return &d, nil
}

// readIDX reads grey pictures [N, H, W] or coloured ones [N, H, W, C], and
// their labels [N].
func readIDX(f *idxFiles) (Images, error) {
	x, err := source.ReadIDX(f.images)
	if err != nil {
		return Images{}, err
	}
	y, err := source.ReadIDX(f.labels)
	if err != nil {
		return Images{}, err
	}
	switch {
	case x.Type != source.IDXUint8 || len(x.Shape) < 3 || len(x.Shape) > 4:
		return Images{}, fmt.Errorf("%s: type %#x of shape %v; want bytes (0x08) of shape [images, height, width] or with channels behind", f.images, x.Type, x.Shape)
	case y.Type != source.IDXUint8 || len(y.Shape) != 1:
		return Images{}, fmt.Errorf("%s: type %#x of shape %v; want bytes (0x08) of shape [images]", f.labels, y.Type, y.Shape)
	case x.Shape[0] != y.Shape[0]:
		return Images{}, fmt.Errorf("%s: %d labels for %d images", f.labels, y.Shape[0], x.Shape[0])
	case x.Len() == 0:
		return Images{}, fmt.Errorf("%s: no images", f.images)
	}
	m := Images{H: x.Shape[1], W: x.Shape[2], C: 1, Pixels: x.Data, Labels: make([]int32, y.Len())}
	if len(x.Shape) == 4 {
		m.C = x.Shape[3]
	}
	for i, l := range y.Data {
		m.Labels[i] = int32(l)
	}
	return m, nil
}

// divide moves a share of the training pictures to the validation.
func (d *Dataset) divide(fraction float64) {
	all := d.Train
	d.Train = Images{H: all.H, W: all.W, C: all.C}
	d.Valid = d.Train
	for i, l := range all.Labels {
		to := &d.Train
		if forValidation(i, fraction) {
			to = &d.Valid
		}
		to.Pixels = append(to.Pixels, all.Pixels[i*all.Size():(i+1)*all.Size()]...)
		to.Labels = append(to.Labels, l)
	}
}

// forValidation tells whether picture i is one of the given share.
func forValidation(i int, fraction float64) bool {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	h := sha256.Sum256(b[:])
	return float64(binary.BigEndian.Uint64(h[:])) < fraction*math.Pow(2, 64)
}

// normalise measures mean and deviation of each channel of the training data.
func (d *Dataset) normalise() {
	c := d.Train.C
	counts := make([][256]int64, c)
	for i, p := range d.Train.Pixels {
		counts[i%c][p]++
	}
	d.Mean, d.Std = make([]float32, c), make([]float32, c)
	n := float64(len(d.Train.Pixels) / c)
	for k := range counts {
		var sum, squares float64
		for v, times := range counts[k] {
			x := float64(v) / 255
			sum += x * float64(times)
			squares += x * x * float64(times)
		}
		mean := sum / n
		d.Mean[k] = float32(mean)
		d.Std[k] = float32(max(math.Sqrt(max(squares/n-mean*mean, 0)), 1.0/255)) // pictures may be all alike
	}
}

// gatherGrain is the number of pictures in one piece of gathering.
const gatherGrain = 16

type gatherArgs struct {
	x         []float32
	labels    []int32
	from      *Images
	ids       []int32
	mean, std []float32
}

var gatherLoop par.Loop[gatherArgs]

// gather writes pictures, normalised, and their labels. x: [len(ids), H, W, C];
// labels: [len(ids)].
func gather(x []float32, labels []int32, from *Images, ids []int32, mean, std []float32) {
	a := gatherArgs{x, labels, from, ids, mean, std}
	gatherLoop.Run(par.Pieces(len(ids), gatherGrain), a, func(a *gatherArgs, i int) {
		size, c := a.from.Size(), a.from.C
		lo, hi := par.Bounds(i, gatherGrain, len(a.ids))
		for k, id := range a.ids[lo:hi] {
			a.labels[lo+k] = a.from.Labels[id]
			pixels := a.from.Pixels[int(id)*size : (int(id)+1)*size]
			row := a.x[(lo+k)*size : (lo+k+1)*size]
			for ch := range c {
				scale := 1 / (255 * a.std[ch])
				shift := a.mean[ch] / a.std[ch]
				for j := ch; j < size; j += c {
					row[j] = float32(pixels[j])*scale - shift
				}
			}
		}
	})
}

// errNoImages is the error of a directory in none of the layouts.
var errNoImages = errors.New("neither IDX files (train-images…, train-labels…) nor folders of PNG or JPEG images, one for each class")

// subfolders lists the folders in a directory that are not hidden, by name.
func subfolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name())) // follows links
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.IsDir() && e.Name()[0] != '.' {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
