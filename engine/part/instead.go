package part

import "strings"

// Instead tells, for an unknown name, what is known: the nearest name, if one
// is near enough to be what was meant, and all of them.
func Instead(name string, known []string) string {
	best, at := len(name)/3+1, "" // as many slips as a third of the letters, and one
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d <= best && d < len(k) {
			best, at = d-1, k
		}
	}
	all := "there is " + strings.Join(known, ", ")
	if at == "" {
		return all
	}
	return "did you mean " + at + "? (" + all + ")"
}

// distance is the number of letters to insert, delete or replace to get from a
// to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
