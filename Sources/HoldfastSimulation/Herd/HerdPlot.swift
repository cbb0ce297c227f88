/// Clients that knock per 100 ms over time as an SVG, on a logarithmic scale: our line thick, the others behind it. Our
/// attempts, which may be two for one knock, are a thin line.
public struct HerdPlot {
    private static let (width, height) = (960.0, 520.0)
    private static let (left, right, top, bottom) = (72.0, 190.0, 56.0, 52.0)
    /// Told apart on a light ground and on a dark one.
    private static let colours = [
        "#e07b39", "#4f9d69", "#b565a7", "#8c8c3f", "#3fa7b5", "#c7565b", "#8a7fd1", "#a0785a", "#6f9fd8", "#d19a2a",
        "#7d8b99", "#5aa39a",
    ]
    private static let style = """
        text{font:13px system-ui,sans-serif;fill:#333}.title{font-size:16px;font-weight:600}.small{font-size:12px}
        .grid{stroke:#ddd}.line{fill:none;stroke-width:1.4;stroke-linejoin:round;opacity:.85}
        .own{stroke:#0b5fff;stroke-width:3;opacity:1}.all{stroke:#0b5fff;stroke-width:1;stroke-dasharray:2 2}.swatch{opacity:1}.limit{stroke:#d00;stroke-dasharray:6 4}
        .ground{fill:#fff}.away{fill:#888;opacity:.13}
        @media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#3a3a3a}.ground{fill:#161616}
        .own,.all{stroke:#6ea8ff}.limit{stroke:#ff6b6b}.away{opacity:.22}}
        """

    private let reports: [HerdReport]
    private let settings: HerdSettings
    /// In ms.
    private let end: Double
    private let most: Double

    /// - Parameter reports: of the same settings; the first one is highlighted. `nil` if there is none.
    public init?(_ reports: [HerdReport]) {
        guard let first = reports.first else { return nil }
        self.reports = reports
        self.settings = first.settings
        // What comes long after our own clients are back would squeeze the rest.
        let back = first.backAll ?? first.settings.backMax
        let outage = first.settings.event == .drain ? 0 : first.settings.outage
        self.end = Double(outage + max(back * 3 / 2, 5000))
        let peak = reports.flatMap(\.series).max() ?? 1
        self.most = Double(max(peak, first.settings.knocksMax)) * 1.3
    }

    public var svg: String {
        let (width, height) = (Self.width, Self.height)
        var parts = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(Int(width)) \(Int(height))\" role=\"img\">",
            "<title>\(self.title)</title><style>\(Self.style)</style>",
            "<rect class=\"ground\" width=\"100%\" height=\"100%\"/>",
            "<text class=\"title\" x=\"\(Int(Self.left))\" y=\"28\">\(self.title)</text>",
        ]
        parts += self.axes
        for (index, report) in self.reports.enumerated().reversed() { parts += self.line(report, index: index) }
        parts.append("</svg>\n")
        return parts.joined(separator: "\n")
    }

    private var title: String {
        let outage = HerdTable.number(Double(self.settings.outage) / 1000, digits: 0)
        let event =
            switch self.settings.event {
            case .crash: "crash, back after \(outage) s, connects refused meanwhile"
            case .unanswered: "crash, back after \(outage) s, connects unanswered meanwhile"
            case .drain: "drain with a second gateway"
            case .vanish: "the host vanishes for \(outage) s"
            }
        return "\(self.settings.clients) clients: \(event). Clients that knock per 100 ms"
    }

    private func x(_ milliseconds: Double) -> Double {
        Self.left + milliseconds / self.end * (Self.width - Self.left - Self.right)
    }

    /// Nothing is drawn at the ground: a logarithm has no zero.
    private func y(_ count: Double) -> Double {
        let room = Self.height - Self.top - Self.bottom
        return Self.height - Self.bottom - log10(max(count, 0.6) / 0.6) / log10(self.most / 0.6) * room
    }

    private var axes: [String] {
        let (floor, right) = (Self.height - Self.bottom, Self.width - Self.right)
        var parts: [String] = []
        if self.settings.event != .drain {
            let x = self.x(0)
            let width = self.x(Double(self.settings.outage)) - x
            let room = floor - Self.top
            parts.append(
                "<rect class=\"away\" x=\"\(self.at(x))\" y=\"\(self.at(Self.top))\" width=\"\(self.at(width))\" "
                    + "height=\"\(self.at(room))\"/>")
            parts.append(self.label("away", x: x + width / 2, y: floor - 8, anchor: "middle"))
        }
        var decade = 1.0
        while decade <= self.most {
            parts.append(self.rule("grid", from: (Self.left, self.y(decade)), to: (right, self.y(decade))))
            parts.append(self.label("\(Int(decade))", x: Self.left - 8, y: self.y(decade) + 4, anchor: "end"))
            decade *= 10
        }
        let step = self.step
        for time in stride(from: 0, through: self.end, by: step * 1000) {
            parts.append(self.rule("grid", from: (self.x(time), floor), to: (self.x(time), floor + 5)))
            parts.append(self.label("\(Int(time / 1000)) s", x: self.x(time), y: floor + 22, anchor: "middle"))
        }
        let limit = self.y(Double(self.settings.knocksMax))
        parts.append(self.rule("limit", from: (Self.left, limit), to: (right, limit)))
        parts.append(self.label("P4: \(self.settings.knocksMax)", x: right - 4, y: limit - 6, anchor: "end"))
        return parts
    }

    /// Seconds between two marks.
    private var step: Double {
        [1, 2, 5, 10, 20, 60, 120, 300, 600, 1800].first { self.end / 1000 / $0 <= 10 } ?? 3600
    }

    private func line(_ report: HerdReport, index: Int) -> [String] {
        let isOwn = index == 0
        let colour = isOwn ? "" : " stroke=\"\(Self.colours[(index - 1) % Self.colours.count])\""
        let kind = isOwn ? "line own" : "line"
        let y = Self.top + 10 + Double(index) * 22
        let x = Self.width - Self.right + 14
        let attempts = isOwn ? ["<path class=\"line all\" d=\"\(self.path(report.series))\"/>"] : []
        return attempts + [
            "<path class=\"\(kind)\"\(colour) d=\"\(self.path(report.knocks))\"/>",
            "<path class=\"\(kind) swatch\"\(colour) d=\"M\(self.at(x)) \(self.at(y))h22\"/>",
            self.label(report.name, x: x + 28, y: y + 4, anchor: "start"),
        ]
    }

    /// Steps, down to the ground where nobody knocks. More windows than can be told apart are drawn as their busiest.
    private func path(_ series: [Int]) -> String {
        let window = Double(HerdRecord.window)
        let shown = series.prefix(Int(self.end / window))
        let group = max(1, Int((self.end / window / (Self.width - Self.left - Self.right)).rounded(.up)))
        let ground = self.at(Self.height - Self.bottom)
        var path = ""
        var isDown = false
        for start in stride(from: 0, to: shown.count, by: group) {
            let count = shown[start..<min(start + group, shown.count)].max() ?? 0
            if count > 0, !isDown { path += "M\(self.at(self.x(Double(start) * window))) \(ground)" }
            if count > 0 {
                path += "V\(self.at(self.y(Double(count))))H\(self.at(self.x(Double(start + group) * window)))"
            } else if isDown {
                path += "V\(ground)"
            }
            isDown = count > 0
        }
        return path
    }

    private func rule(_ kind: String, from: (Double, Double), to: (Double, Double)) -> String {
        "<line class=\"\(kind)\" x1=\"\(self.at(from.0))\" y1=\"\(self.at(from.1))\" x2=\"\(self.at(to.0))\" "
            + "y2=\"\(self.at(to.1))\"/>"
    }

    private func label(_ text: String, x: Double, y: Double, anchor: String) -> String {
        "<text class=\"small\" x=\"\(self.at(x))\" y=\"\(self.at(y))\" text-anchor=\"\(anchor)\">\(text)</text>"
    }

    private func at(_ value: Double) -> String { HerdTable.number(value, digits: 1) }
}

/// Without Foundation, which this target does not import: digits before the point, and the rest by its series.
private func log10(_ value: Double) -> Double {
    // ln m = 2·(z + z³/3 + z⁵/5 + …) with z = (m - 1) / (m + 1), m in 1..<2.
    let mantissa = value.significand
    let z = (mantissa - 1) / (mantissa + 1)
    var (sum, power) = (0.0, z)
    for divisor in stride(from: 1.0, to: 25, by: 2) {
        sum += power / divisor
        power *= z * z
    }
    return (2 * sum + Double(value.exponent) * 0.6931471805599453) / 2.302585092994046
}
