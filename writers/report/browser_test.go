package report

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/writers/report/internal/synthetic"
)

// Set by continuous integration, it turns a missing browser from a skip into a failure.
const requireBrowserEnv = "SYMAUDIT_REQUIRE_BROWSER"

// Set to a folder, it keeps pictures of the pages there, and SYMAUDIT_REPORT tries the page of another report too.
const picturesEnv, reportEnv = "SYMAUDIT_PICTURES", "SYMAUDIT_REPORT"

// openBrowser starts a headless Chromium, or skips the test where there is none.
func openBrowser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv(requireBrowserEnv) != "" {
			t.Fatal("no Chromium is found, and " + requireBrowserEnv + " is set")
		}
		t.Skip("no Chromium is found: the page is not tried in a browser")
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)...)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// faults finds what a reader would stumble over: a page wider than its window, text too small or over other text, panels or tables that
// overlap.
const faults = `(() => {
	const found = []
	const over = (a, b, by) => a.left < b.right - by && b.left < a.right - by && a.top < b.bottom - by && b.top < a.bottom - by
	const visible = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0 }
	if (document.documentElement.scrollWidth > window.innerWidth + 1) found.push("the page is " + document.documentElement.scrollWidth + " wide")
	for (const panel of document.querySelectorAll(".panels > svg")) {
		const scale = panel.getBoundingClientRect().width / panel.viewBox.baseVal.width
		const texts = [...panel.querySelectorAll("text")].filter(visible)
		for (const text of texts) {
			const size = scale * parseFloat(getComputedStyle(text).fontSize)
			if (size < 9) found.push("text of " + size.toFixed(1) + " px: " + text.textContent)
		}
		const frame = panel.getBoundingClientRect()
		for (const text of texts) {
			const r = text.getBoundingClientRect()
			if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 2) found.push("cut off: " + text.textContent + " in " + panel.getAttribute("aria-label"))
		}
		for (let i = 0; i < texts.length; i++)
			for (let j = 0; j < i; j++)
				if (over(texts[i].getBoundingClientRect(), texts[j].getBoundingClientRect(), 2.5))
					found.push("text on text: " + texts[i].textContent + ", " + texts[j].textContent + " in " + panel.getAttribute("aria-label"))
	}
	const blocks = [...document.querySelectorAll("main > h1, main > h2, main > h3, main > p, main > section, main > nav, main > dl, .panels > svg, figcaption, .legend, main > .wide")].filter(visible)
	for (let i = 0; i < blocks.length; i++)
		for (let j = 0; j < i; j++)
			if (!blocks[j].contains(blocks[i]) && !blocks[i].contains(blocks[j]) && over(blocks[i].getBoundingClientRect(), blocks[j].getBoundingClientRect(), 1))
				found.push("overlap: " + blocks[i].outerHTML.slice(0, 80) + " and " + blocks[j].outerHTML.slice(0, 80))
	return found
})()`

// picks tries each control of the part that a reader picks in, and says what does not follow.
const picks = `(() => {
	const found = []
	const section = document.getElementById("explore")
	const pick = name => section.querySelector("[name=" + name + "]")
	const drawing = () => section.querySelector(".panels").innerHTML
	const set = (name, value) => { pick(name).value = value; pick(name).dispatchEvent(new Event("input", {bubbles: true})); pick(name).dispatchEvent(new Event("change", {bubbles: true})) }
	if (section.hidden) found.push("the section is hidden")
	if (section.querySelectorAll(".panels svg circle").length < 4) found.push("no dots are drawn")
	const data = JSON.parse(document.getElementById("explore-data").textContent)
	for (const [name, value] of [["quantity", 1], ["quantity", 2], ["quantity", 0], ...(+pick("audit").max > 0 ? [["audit", 0]] : []), ["element", 1], ["group", data.Groups.length - 1], ["element", 2]]) {
		const before = drawing()
		set(name, value)
		if (drawing() === before) found.push(name + " " + value + " changes nothing")
	}
	if (pick("element").options.length !== data.Groups[data.Groups.length - 1].Elements.length) found.push("the elements are not those of the group")
	if (+pick("audit").max === 0) return found
	set("audit", 0)
	const first = section.querySelector("output").value
	set("audit", pick("audit").max)
	if (section.querySelector("output").value === first) found.push("the audit is always " + first)
	return found
})()`

func TestThePageInABrowser(t *testing.T) {
	browser := openBrowser(t)
	long := "a model with a very long name, longer than most would give it"
	pages := map[string]synthetic.Run{
		"usual": {Models: []string{"unet", "vit"}, Epochs: 6, Groups: []string{"d4", "translations", "d4*translations"}, HalfWidth: 0.15, Larger: []float64{1e-2, 1}, Evaluation: true},
		"many": {Models: []string{long, "b", "c", "d", "e", "f", "g"}, Epochs: 2, HalfWidth: 0.15, Evaluation: true,
			Groups: []string{"octahedral", "a group of symmetries with a name that is as long as a sentence"}},
	}
	for name, run := range pages {
		dir := t.TempDir()
		run.Write(t, dir)
		path, _, err := Write(dir)
		require.NoError(t, err)
		tryPage(t, browser, name, path)
	}
	if path := os.Getenv(reportEnv); path != "" {
		tryPage(t, browser, "report", path)
	}
}

func tryPage(t *testing.T, browser context.Context, name, page string) {
	page, err := filepath.Abs(page)
	require.NoError(t, err)
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(fmt.Sprintf("%s %d %s", name, width, scheme), func(t *testing.T) {
				ctx, cancel := chromedp.NewContext(browser)
				defer cancel()
				var said []string
				chromedp.ListenTarget(ctx, func(event any) {
					switch event := event.(type) {
					case *runtime.EventConsoleAPICalled:
						said = append(said, fmt.Sprint("console: ", event.Type))
					case *runtime.EventExceptionThrown:
						said = append(said, event.ExceptionDetails.Error())
					case *log.EventEntryAdded:
						said = append(said, event.Entry.Text)
					}
				})
				var stumbles, stuck []string
				var picture []byte
				require.NoError(t, chromedp.Run(ctx,
					log.Enable(),
					emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500),
					emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
					chromedp.Navigate("file://"+page),
					chromedp.Evaluate(faults, &stumbles),
					chromedp.Evaluate(picks, &stuck),
					chromedp.FullScreenshot(&picture, 90),
				))
				require.Empty(t, said)
				require.Empty(t, stumbles)
				require.Empty(t, stuck)
				if folder := os.Getenv(picturesEnv); folder != "" {
					require.NoError(t, os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s-%d-%s.jpg", name, width, scheme)), picture, 0o666))
				}
			})
		}
	}
}
