package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/checkpoint"
	"k8s-reloader/reloader/fingerprint"
)

func vault() reloader.Source {
	return reloader.Source{Kind: reloader.SecretProviderClass, Namespace: "shop", Name: "vault"}
}

// pods is a class as its pods report it, one step after another; each step has
// a higher version.
type pods struct {
	*rotations
	version uint64
	// turns are the contents that have become the present ones.
	turns []fingerprint.Fingerprint
}

func newPods() *pods { return &pods{rotations: newRotations()} }

func (p *pods) report(name, holds string) {
	p.version++
	before := p.content(vault())
	p.told(before, p.reported(reportNamed(name, holds, p.version)))
}

// reportNamed is a report; that of a pod with a plus has come with what it holds,
// and a digit behind a slash tells one pod of that name from another.
func reportNamed(name, holds string, version uint64) mountReport {
	name, came := strings.CutPrefix(name, "+")
	name, nth, _ := strings.Cut(name, "/")
	holder, _ := strconv.ParseUint(nth, 10, 64)
	return mountReport{class: vault(), name: name, mount: mount{
		content: fingerprint.Fingerprint(holds), version: version, came: came, pod: name, holder: holder,
	}}
}

func (p *pods) remove(name string) {
	p.version++
	before := p.content(vault())
	p.told(before, p.gone(vault(), name))
}

func (p *pods) told(before content, news bool) {
	after := p.content(vault())
	if !news {
		return
	}
	if after.absent {
		p.turns = append(p.turns, "-")
		return
	}
	if left := p.returned(vault()); left != "" {
		p.turns = append(p.turns, left)
		p.followed(vault(), left)
	} else if !before.absent && before.fingerprint == after.fingerprint {
		return
	}
	if before.absent || before.fingerprint != after.fingerprint || len(p.turns) > 0 {
		p.turns = append(p.turns, after.fingerprint)
	}
}

// list is what a list brings when the pods hold that, in the order of their
// reports.
func (p *pods) list(holds ...string) {
	var all []mountReport
	for i, h := range holds {
		p.version++
		name, content, _ := strings.Cut(h, "=")
		all = append(all, reportNamed(name, content, p.version))
		if i%2 == 1 { // in no order
			slices.Reverse(all)
		}
	}
	before := p.content(vault())
	p.told(before, len(p.listed("", all)) > 0)
}

func TestWhichContentOfAClassIsPresent(t *testing.T) {
	type turns = []fingerprint.Fingerprint
	tests := map[string]struct {
		listed []string
		// steps are reports, pod=content, and pods that are gone, pod.
		steps []string
		want  turns
	}{
		"the first report": {steps: []string{"1=a"}, want: turns{"a"}},
		"the first list, of one content": {
			listed: []string{"1=a", "2=a"}, want: turns{"a"},
		},
		"the first list, in the middle of a rotation": {
			listed: []string{"1=a", "2=a", "3=b"}, want: turns{"b"},
		},
		"a list of those that lag behind, which then go on": {
			listed: []string{"1=a", "3=b"}, steps: []string{"1=b"}, want: turns{"b"},
		},
		"a list whose newest report was old": {
			listed: []string{"3=b", "1=a"}, steps: []string{"1=b"}, want: turns{"a", "b"},
		},
		"a rotation, one pod after another": {
			steps: []string{"1=a", "2=a", "3=a", "1=b", "2=b", "3=b"}, want: turns{"a", "b"},
		},
		"a report that is put again, also by one that lags behind": {
			steps: []string{"1=a", "2=a", "1=b", "2=a", "1=b", "2=a"}, want: turns{"a", "b"},
		},
		"a pod that comes with the old content": {
			steps: []string{"1=a", "2=a", "1=b", "3=a", "2=b", "3=b"}, want: turns{"a", "b"},
		},
		"a pod that comes with the new content": {
			steps: []string{"1=a", "2=a", "3=b", "1=b", "2=b"}, want: turns{"a", "b"},
		},
		"pods that a rollout replaces": {
			steps: []string{"1=a", "2=a", "1=b", "3=b", "1", "4=b", "2"}, want: turns{"a", "b"},
		},
		"the first pod with the new content goes before the others follow": {
			steps: []string{"1=a", "2=a", "1=b", "1", "2=b"}, want: turns{"a", "b"},
		},
		"two rotations, of which one pod misses the first": {
			steps: []string{"1=a", "2=a", "1=b", "1=c", "2=c"}, want: turns{"a", "b", "c"},
		},
		"two rotations, in which one pod lags behind": {
			steps: []string{"1=a", "2=a", "1=b", "1=c", "2=b", "2=c"}, want: turns{"a", "b", "c"},
		},
		"a roll-back": {
			steps: []string{"1=a", "2=a", "1=b", "2=b", "1=a", "2=a"}, want: turns{"a", "b", "a"},
		},
		"a roll-back before all pods have followed": {
			steps: []string{"1=a", "2=a", "3=a", "1=b", "2=b", "1=a", "2=a"}, want: turns{"a", "b", "a"},
		},
		"a roll-back by one of two": {
			steps: []string{"1=a", "2=a", "1=b", "1=c", "2=c", "1=b", "2=b"}, want: turns{"a", "b", "c", "b"},
		},
		"all pods go, and one comes with other content": {
			steps: []string{"1=a", "2=a", "1", "2", "3=b"}, want: turns{"a", "-", "b"},
		},
		"a report that says nothing": {
			steps: []string{"1=", "1=a", "2=", "1=b"}, want: turns{"a", "b"},
		},
		"a pod that has nothing mounted any more": {
			steps: []string{"1=a", "1="}, want: turns{"a", "-"},
		},
		"a pod that was never there": {steps: []string{"1"}},

		"the owner restarts, and the new pods have new content": {
			steps: []string{"+1=a", "+2=a", "+3=b", "+4=b", "1", "2"}, want: turns{"a"},
		},
		"and again": {
			steps: []string{"+1=a", "+2=b", "1", "+3=c", "2"}, want: turns{"a"},
		},
		"the owner restarts, and the store is rotated after that": {
			steps: []string{"+1=a", "+2=b", "1", "2=c"}, want: turns{"a", "c"},
		},
		"one more pod": {steps: []string{"+1=a", "+2=a", "+3=b"}, want: turns{"a"}},
		"one more pod, before the others follow": {
			steps: []string{"+1=a", "+2=a", "+3=b", "1=b", "2=b"}, want: turns{"a", "b"},
		},
		"one more pod, and pods that our rollout creates": {
			steps: []string{"+1=a", "+2=a", "+3=b", "1=b", "+4=b", "1", "+5=b", "2"}, want: turns{"a", "b"},
		},
		"one that lags behind goes on to what others have come with": {
			steps: []string{"1=a", "2=a", "1=b", "+3=c", "2=c", "1=c"}, want: turns{"a", "b", "c"},
		},
		"two pods come with different content, and the others follow one after another": {
			steps: []string{"+1=a", "+2=b", "+3=c", "1=b", "1=c", "2=c"}, want: turns{"a", "b", "c"},
		},
		"two pods come with different content, and the others miss the first": {
			steps: []string{"+1=a", "+2=b", "+3=c", "1=c", "2=c"}, want: turns{"a", "c"},
		},
		"a pod comes with former content": {
			steps: []string{"+1=a", "+2=a", "1=b", "+3=a", "3=b", "2=b"}, want: turns{"a", "b"},
		},
		"rolled back before others have followed": {
			steps: []string{"+1=a", "+2=b", "2=a"}, want: turns{"a", "b", "a"},
		},
		"rolled back further": {
			steps: []string{"1=a", "1=b", "+2=c", "2=a", "1=a"}, want: turns{"a", "b", "a"},
		},
		"a report is put again for a pod that came": {
			steps: []string{"+1=a", "+2=b", "2=b", "1=b"}, want: turns{"a", "b"},
		},
		"another pod of a StatefulSet takes the report over": {
			steps: []string{"+web-0/1=a", "+web-1/2=a", "web-1/3=b", "web-0/4=b"}, want: turns{"a"},
		},
		"and is rotated then": {
			steps: []string{"+web-0/1=a", "web-0/2=b", "web-0/2=c"}, want: turns{"a", "c"},
		},
		"a first list with one that has come last": {
			listed: []string{"+1=a", "+2=a", "+3=b"}, steps: []string{"1=b", "2=b"}, want: turns{"a", "b"},
		},
		"a first list in the middle of a rotation, with one that has come": {
			listed: []string{"+1=a", "2=b", "+3=b"}, steps: []string{"1=b"}, want: turns{"b"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPods()
			if tc.listed != nil {
				p.list(tc.listed...)
			}
			for _, step := range tc.steps {
				if pod, content, ok := strings.Cut(step, "="); ok {
					p.report(pod, content)
				} else {
					p.remove(pod)
				}
			}
			assert.Equal(t, tc.want, p.turns)
		})
	}
}

func TestReportsThatWereMissed(t *testing.T) {
	tests := map[string]struct {
		before, after []string
		want          []fingerprint.Fingerprint
	}{
		"nothing happened":            {[]string{"1=a", "2=a"}, []string{"1=a", "2=a"}, []fingerprint.Fingerprint{"a"}},
		"one pod has new content":     {[]string{"1=a", "2=a"}, []string{"2=a", "1=b"}, []fingerprint.Fingerprint{"a", "b"}},
		"all pods have":               {[]string{"1=a", "2=a"}, []string{"1=b", "2=b"}, []fingerprint.Fingerprint{"a", "b"}},
		"all pods were replaced":      {[]string{"1=a", "2=a"}, []string{"3=b", "4=b"}, []fingerprint.Fingerprint{"a", "b"}},
		"two rotations, one follows":  {[]string{"1=a", "2=a"}, []string{"2=b", "1=c"}, []fingerprint.Fingerprint{"a", "c"}},
		"all pods have gone":          {[]string{"1=a", "2=a"}, nil, []fingerprint.Fingerprint{"a", "-"}},
		"one has gone, one has not":   {[]string{"1=a", "2=a"}, []string{"2=a"}, []fingerprint.Fingerprint{"a"}},
		"one has nothing any more":    {[]string{"1=a", "2=a"}, []string{"1=a", "2="}, []fingerprint.Fingerprint{"a"}},
		"pods that came, with former": {[]string{"1=a", "2=b"}, []string{"2=b", "3=a"}, []fingerprint.Fingerprint{"b"}},
		"the owner has restarted":     {[]string{"+1=a", "+2=a"}, []string{"+3=b", "+4=b"}, []fingerprint.Fingerprint{"a"}},
		"one more pod has come":       {[]string{"+1=a", "+2=a"}, []string{"+1=a", "+2=a", "+3=b"}, []fingerprint.Fingerprint{"a"}},
		"one has come, one followed":  {[]string{"+1=a", "+2=a"}, []string{"+2=a", "+3=b", "1=b"}, []fingerprint.Fingerprint{"a", "b"}},
		"a StatefulSet was restarted": {[]string{"+web-0/1=a"}, []string{"+web-0/2=b"}, []fingerprint.Fingerprint{"a"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPods()
			p.list(tc.before...)
			p.list(tc.after...)
			assert.Equal(t, tc.want, p.turns)
		})
	}
}

func TestABackupTakesVersionsBack(t *testing.T) {
	p := newPods()
	p.version = 100
	p.list("1=a", "2=a")
	p.version = 50
	p.list("1=a", "2=a")
	assert.Less(t, p.content(vault()).version, uint64(100), "what comes next has a higher one")
}

// What had been rolled out tells a list of laggards from one of news.
func TestWhatAClassHeldWhenTheEngineStarts(t *testing.T) {
	kept := func(f fingerprint.Fingerprint, version uint64) checkpoint.Entry {
		return checkpoint.Entry{Fingerprint: f, Version: version}
	}
	tests := map[string]struct {
		kept   checkpoint.Entry
		listed []string // their versions count from 11
		want   fingerprint.Fingerprint
		// then are steps after that.
		then      []string
		wantTurns []fingerprint.Fingerprint
	}{
		"nothing has changed":                         {kept("a", 5), []string{"1=a", "2=a"}, "a", []string{"1=b", "2=b"}, []fingerprint.Fingerprint{"b"}},
		"all pods have new content":                   {kept("a", 5), []string{"1=b", "2=b"}, "b", nil, nil},
		"some pods have, which is the newest report":  {kept("a", 5), []string{"1=a", "2=b"}, "b", []string{"1=b"}, nil},
		"some pods have, and an old one was put":      {kept("a", 5), []string{"2=b", "1=a"}, "b", []string{"1=b"}, nil},
		"some pods had not followed yet":              {kept("b", 12), []string{"1=a", "2=b"}, "b", []string{"1=b"}, nil},
		"one that had not followed is all there is":   {kept("b", 12), []string{"1=a"}, "b", []string{"1=b"}, nil},
		"one that had not followed, and its like":     {kept("b", 12), []string{"1=a", "2=b", "3=a"}, "b", []string{"1=b", "3=b"}, nil},
		"one had not followed, and there is news":     {kept("b", 12), []string{"1=a", "2=b", "3=c"}, "c", []string{"1=c", "2=c"}, nil},
		"a rotation was on its way":                   {kept("a", inMotion), []string{"1=b", "2=a", "3=b"}, "b", []string{"2=b"}, nil},
		"it was, and its report is not the newest":    {kept("a", inMotion), []string{"1=b", "2=a"}, "b", []string{"2=b"}, nil},
		"a rotation was on its way, and taken back":   {kept("a", inMotion), []string{"1=a", "2=a"}, "a", []string{"1=b"}, []fingerprint.Fingerprint{"b"}},
		"two rotations, of which the last one counts": {kept("a", 5), []string{"1=b", "2=c"}, "c", []string{"1=c"}, nil},

		"the owner has restarted":                        {kept("a", 5), []string{"+3=b", "+4=b"}, "a", []string{"3=c"}, []fingerprint.Fingerprint{"c"}},
		"one more pod has come":                          {kept("a", 11), []string{"+1=a", "+3=b"}, "a", []string{"1=b"}, []fingerprint.Fingerprint{"b"}},
		"one has come before that, and others follow":    {kept("a", 11), []string{"+1=a", "+3=b", "2=b"}, "b", []string{"1=b"}, nil},
		"one has come after a rotation":                  {kept("a", 5), []string{"1=b", "+3=c"}, "b", []string{"1=c"}, []fingerprint.Fingerprint{"c"}},
		"a rotation was on its way, by our own rollouts": {kept("a", inMotion), []string{"+3=b", "1=a"}, "b", []string{"1=b"}, nil},
		"it was rolled out, and one lags behind":         {kept("b", 12), []string{"+1=a", "+2=b"}, "b", []string{"1=b"}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPods()
			p.version = 10
			p.list(tc.listed...)
			p.turns = nil
			p.recall(vault(), tc.kept)
			got := p.content(vault())
			assert.Equal(t, tc.want, got.fingerprint)
			assert.NotZero(t, got.version)
			if got.fingerprint == tc.kept.Fingerprint && tc.kept.Version != inMotion {
				assert.Equal(t, tc.kept.Version, got.version, "it need not be looked at")
			}
			for _, step := range tc.then {
				pod, content, _ := strings.Cut(step, "=")
				p.report(pod, content)
			}
			assert.Equal(t, tc.wantTurns, p.turns)
		})
	}
	t.Run("not if the change was seen", func(t *testing.T) {
		p := newPods()
		p.list("1=a", "2=a")
		p.report("1", "b")
		p.recall(vault(), kept("b", 1))
		p.recall(vault(), kept("a", 1))
		assert.Equal(t, fingerprint.Fingerprint("b"), p.content(vault()).fingerprint)
	})
	t.Run("nor a second time", func(t *testing.T) {
		p := newPods()
		p.list("1=a", "2=b")
		p.recall(vault(), checkpoint.Entry{})
		p.report("3", "a")
		p.remove("1")
		p.recall(vault(), kept("b", 2))
		assert.Equal(t, fingerprint.Fingerprint("b"), p.content(vault()).fingerprint, "the pod that has come lags behind")
	})
	t.Run("nor if no pod reports", func(t *testing.T) {
		p := newPods()
		p.recall(vault(), kept("a", 1))
		assert.True(t, p.content(vault()).absent)
	})
}

func TestWhatIsRememberedOfAClassIsBounded(t *testing.T) {
	p := newPods()
	p.report("late", "0")
	for i := range 3 * maxFormer {
		p.report("1", fmt.Sprint(i))
	}
	assert.Len(t, p.classes[vault()].former, maxFormer)
	turns := len(p.turns)
	p.report("2", "0")
	assert.Len(t, p.turns, turns, "another pod still has it")
	p.remove("late")
	p.remove("1")
	p.remove("2")
	assert.Empty(t, p.classes)
}

// FuzzRotation lets the choices rotate a store whose pods follow one after
// another, come with what is in the store or with what others have, go, and
// report again. Content changes once per rotation that a pod has followed, never
// because one has come, and never goes back to what it was.
func FuzzRotation(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		choices := make([]byte, 20+random.IntN(200))
		for i := range choices {
			choices[i] = byte(random.UintN(256))
		}
		f.Add(choices, byte(random.UintN(4)))
	}
	f.Fuzz(func(t *testing.T, choices []byte, rotations byte) {
		store, followed := 0, 0
		content := func(n int) string { return fmt.Sprint("v", n) }
		p, holds, born := newPods(), map[int]int{}, 5
		for pod := range born {
			holds[pod] = 0
			p.report(fmt.Sprint("+", pod), content(0))
		}
		var story []string
		for i := 0; i+1 < len(choices); i += 2 {
			alive := make([]int, 0, len(holds))
			for pod := range holds {
				alive = append(alive, pod)
			}
			slices.Sort(alive)
			pod := alive[int(choices[i+1])%len(alive)]
			name, before := fmt.Sprint(pod), holds[pod]
			switch choices[i] % 8 {
			case 0:
				if store < int(rotations%4)+1 {
					store++
				}
				continue
			case 1, 2, 3:
				holds[pod] = store
			case 4, 5:
				if choices[i]%8 == 4 {
					before = store
				}
				pod, born = born, born+1
				holds[pod], name = before, fmt.Sprint("+", pod)
			case 6:
				if len(alive) > 1 {
					delete(holds, pod)
					p.remove(fmt.Sprint(pod))
					story = append(story, fmt.Sprint(pod, " goes"))
				}
				continue
			}
			p.report(name, content(holds[pod]))
			story = append(story, fmt.Sprint(name, "=", holds[pod]))
			if holds[pod] != before {
				followed = store
			}
			require.Equal(t, fingerprint.Fingerprint(content(followed)), p.content(vault()).fingerprint, "%v", story)
		}
		var seen []fingerprint.Fingerprint
		for _, turn := range p.turns {
			require.NotContains(t, seen, turn, "%v", story)
			seen = append(seen, turn)
		}
	})
}
