import Foundation
import HoldfastDrills

/// What people read: the list of drills, and the table of a run.
enum DrillTable {
    /// Columns of a terminal of the usual width.
    private static let width = 100

    static func listed(_ drill: Drill) -> String {
        var lines = ["\(drill.name.padded(to: 12)) \(drill.fault)"]
        var line = ""
        for word in drill.does.split(separator: " ") {
            if line.count + word.count + 1 > Self.width - 13 {
                lines.append(String(repeating: " ", count: 13) + line)
                line = ""
            }
            line += line.isEmpty ? word : " " + word
        }
        lines.append(String(repeating: " ", count: 13) + line)
        return lines.joined(separator: "\n")
    }

    static let heading = [
        "drill", "fault", "noticed after", "back after", "attempts", "lost", "told", "doubled", "out of order",
        "verdict",
    ]

    static func row(_ result: DrillResult) -> [String] {
        let isJudged = result.published > 0
        func count(_ number: Int) -> String { isJudged ? "\(number)" : "–" }
        return [
            result.drill, result.fault, result.noticedAfter.map { "\($0.tenths) s" } ?? "–",
            result.backAfter.map { "\($0.tenths) s" } ?? "–", result.attempts.map(String.init) ?? "–",
            count(result.lost), count(result.told), count(result.doubled), count(result.outOfOrder),
            result.verdict.word,
        ]
    }

    /// The table, what every drill was judged by, and a sentence at the end.
    static func text(_ results: [DrillResult]) -> String {
        let rows = [self.heading] + results.map(self.row)
        let widths = self.heading.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        func line(_ row: [String]) -> String {
            let cells = zip(row, widths).enumerated().map { index, cell in
                // Names and words at the left, figures at the right.
                index < 2 || index == row.count - 1
                    ? cell.0.padded(to: cell.1) : cell.0.padded(to: cell.1, atLeft: true)
            }
            return "| \(cells.joined(separator: " | ")) |"
        }
        let rule = "|" + widths.map { String(repeating: "-", count: $0 + 2) }.joined(separator: "|") + "|"
        var lines = [line(self.heading), rule] + results.map { line(self.row($0)) }
        lines.append("")
        for result in results { lines += self.explained(result) }
        lines.append("")
        lines.append(self.summary(results))
        return lines.joined(separator: "\n")
    }

    private static func explained(_ result: DrillResult) -> [String] {
        var lines = ["\(result.drill): \(result.verdict.word)\(result.reason.isEmpty ? "" : ": \(result.reason)")"]
        let checks = result.checks.filter { $0.isPassed && $0.limit != "≤ 0" }
            .map { "\($0.name) \($0.actual) (\($0.limit))" }
        if !checks.isEmpty { lines.append("  \(checks.joined(separator: ", "))") }
        lines += result.notes.map { "  \($0)" }
        return lines
    }

    static func summary(_ results: [DrillResult]) -> String {
        let counts = DrillReport.counts(results)
        let seconds = results.map(\.seconds).reduce(0, +)
        var words = ["\(counts.passed) passed"]
        if counts.failed > 0 { words.append("\(counts.failed) failed") }
        if counts.errors > 0 { words.append("\(counts.errors) could not judge") }
        if counts.notRun > 0 { words.append("\(counts.notRun) not run") }
        return "\(words.joined(separator: ", ")); \(seconds.tenths) s of drills"
    }
}

extension String {
    func padded(to width: Int, atLeft: Bool = false) -> String {
        let space = String(repeating: " ", count: max(0, width - self.count))
        return atLeft ? space + self : self + space
    }
}
