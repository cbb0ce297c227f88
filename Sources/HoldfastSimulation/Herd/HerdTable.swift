/// The reports as text for a terminal.
public enum HerdTable {
    private static let heads = [
        "client", "attempts/client", "peak/100 ms", "p99", "clients/100 ms", "share", "50 % back", "95 % back",
        "all back",
        "P4",
    ]

    /// One line for each report. `peak` counts attempts, `clients` those that made them: one that tries its fallback
    /// within 100 ms of its WebSocket knocks once.
    public static func text(_ reports: [HerdReport]) -> String {
        let rows = [self.heads] + reports.map(self.row)
        let widths = self.heads.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            row.indices.map { column in
                let gap = String(repeating: " ", count: widths[column] - row[column].count)
                return column == 0 ? row[column] + gap : gap + row[column]
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    private static func row(_ report: HerdReport) -> [String] {
        [
            report.name, self.number(report.attemptsPerClient, digits: 1), "\(report.attemptsPeak)",
            "\(report.attemptsP99)", "\(report.knocksPeak)", self.number(report.knocksShare * 100, digits: 1) + " %",
            self.seconds(report.backHalf), self.seconds(report.backMost), self.seconds(report.backAll),
            report.keepsPromise ? "kept" : self.fault(report),
        ]
    }

    private static func fault(_ report: HerdReport) -> String {
        if report.isSoon { return "too many" }
        return report.isSpread ? "too late" : "too many, too late"
    }

    private static func seconds(_ milliseconds: Int?) -> String {
        milliseconds.map { self.number(Double($0) / 1000, digits: 1) + " s" } ?? "never"
    }

    /// With so many digits behind the point.
    static func number(_ value: Double, digits: Int) -> String {
        let factor = (0..<digits).reduce(1) { product, _ in product * 10 }
        let scaled = Int((value * Double(factor)).rounded())
        guard digits > 0 else { return "\(scaled)" }
        let rest = String(scaled % factor)
        return "\(scaled / factor).\(String(repeating: "0", count: digits - rest.count))\(rest)"
    }
}
