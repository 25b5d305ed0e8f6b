// The part of the page in which a reader picks what to look at: a group, an element, a quantity and an audit. The page is complete without it.
(() => {
  const data = JSON.parse(document.getElementById("explore-data").textContent)
  const section = document.getElementById("explore")
  const pick = name => section.querySelector(`[name=${name}]`)
  const quantities = {
    coherence: { label: "cosine of x and g.x", of: r => ({ middle: r[0], low: r[1], high: r[2] }) },
    "target error": { label: "target error", log: true, of: r => ({ middle: r[5] }) },
    "commutator error": { label: "commutator error", log: true, of: r => ({ middle: r[6] }) },
  }
  const all = data.Rows.map(r => ({ series: r.Series, group: r.Group, element: r.Element, time: r.Time, values: r.Values }))
  const options = (select, names) => select.replaceChildren(...names.map((name, i) => new Option(name, i)))

  const groups = data.Groups.map(g => g.Name)
  options(pick("group"), groups)
  options(pick("quantity"), Object.keys(quantities))
  let times = []

  // What depends on the group: its elements, and the times of its audits.
  const regroup = () => {
    const group = +pick("group").value
    const elements = data.Groups[group].Elements
    options(pick("element"), elements)
    pick("element").value = Math.max(0, elements.indexOf("*"))
    times = [...new Set(all.filter(r => r.group === group).map(r => r.time))].sort((a, b) => a - b)
    pick("audit").max = times.length - 1
    pick("audit").value = times.length - 1
  }

  const draw = () => {
    const group = +pick("group").value, element = +pick("element").value, at = times[+pick("audit").value]
    const quantity = quantities[Object.keys(quantities)[+pick("quantity").value]]
    const elements = data.Groups[group].Elements
    const rows = all.filter(r => r.group === group).map(r => ({ ...r, ...quantity.of(r.values) }))
      .filter(r => r.middle !== null && (!quantity.log || r.middle > 0))
    section.querySelector("output").value = `${data.Time} ${+at.toPrecision(4)}`
    const room = section.querySelector(".panels").clientWidth
    const width = room > 822 ? (room - 22) / 2 : Math.min(620, room) // two columns, or one
    const colour = { domain: data.Series.map((_, i) => i), range: data.Series.map(s => s.Color) }
    const shared = { width, height: 300, marginLeft: 64, marginBottom: 48, style: { background: "none", fontSize: "12px", overflow: "visible" }, color: colour }
    const y = { label: quantity.label, grid: true, ...(quantity.log ? { type: "log" } : { domain: d3.extent([0, 1, ...rows.flatMap(r => [r.low ?? r.middle, r.high ?? r.middle])]) }) }
    const title = r => `${data.Series[r.series].Label}\n${elements[r.element]}, ${data.Time} ${+r.time.toPrecision(4)}\n${+r.middle.toPrecision(3)}`
    const ofSeries = (rows, marks) => data.Series.flatMap((_, i) => marks(rows.filter(r => r.series === i), 5 * (i - (data.Series.length - 1) / 2)))

    const now = rows.filter(r => r.time === at && elements[r.element] !== "*")
    const shown = elements.filter((name, i) => name !== "*" && now.some(r => r.element === i))
    const every = Math.ceil(shown.length * d3.max(shown, name => name.length + 2) * 7 / width) || 1
    const byElement = Plot.plot({ ...shared, ariaLabel: "by element", y, x: { type: "point", domain: shown, label: "element g", labelOffset: 42, ticks: shown.filter((_, i) => i % every === 0) },
      marks: ofSeries(now, (rows, dx) => [
        Plot.ruleX(rows.filter(r => r.low !== undefined), { x: r => elements[r.element], y1: "low", y2: "high", stroke: "series", dx }),
        Plot.dot(rows, { x: r => elements[r.element], y: "middle", fill: "series", r: 3.5, dx, title, tip: true }),
      ]) })
    const path = rows.filter(r => r.element === element)
    const overTime = Plot.plot({ ...shared, ariaLabel: "over time", y, x: { label: data.Time, labelOffset: 42 },
      marks: [
        ...ofSeries(path, rows => [
          Plot.areaY(rows.filter(r => r.low !== undefined), { x: "time", y1: "low", y2: "high", fill: "series", fillOpacity: 0.2 }),
          Plot.lineY(rows, { x: "time", y: "middle", stroke: "series" }),
          Plot.dot(rows, { x: "time", y: "middle", fill: "series", r: rows.length > 60 ? 0 : 3, title, tip: true }),
        ]),
        Plot.ruleX([at], { strokeDasharray: "3,3", strokeOpacity: 0.6 }),
      ] })
    section.querySelector(".panels").replaceChildren(byElement, overTime)
  }

  section.hidden = false
  regroup()
  draw()
  pick("group").addEventListener("change", () => { regroup(); draw() })
  for (const name of ["element", "quantity", "audit"]) pick(name).addEventListener("input", draw)
  addEventListener("resize", draw)
})()
