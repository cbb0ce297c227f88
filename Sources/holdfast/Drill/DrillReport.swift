import Foundation
import HoldfastDrills
import HoldfastProtocol

/// What programs read: JSON, JUnit, the exit code.
enum DrillReport {
    struct Counts {
        var passed = 0
        var failed = 0
        var errors = 0
        var notRun = 0
    }

    static func counts(_ results: [DrillResult]) -> Counts {
        var counts = Counts()
        for result in results {
            switch result.verdict {
            case .passed: counts.passed += 1
            case .failed: counts.failed += 1
            case .error: counts.errors += 1
            case .notRun: counts.notRun += 1
            }
        }
        return counts
    }

    /// What is worse comes first.
    static func exitCode(_ results: [DrillResult]) -> Int32 {
        let counts = self.counts(results)
        if counts.failed > 0 { return 1 }
        if counts.errors > 0 || results.isEmpty { return 3 }
        return counts.notRun > 0 ? 4 : 0
    }

    static func json(_ results: [DrillResult], settings: DrillSettings, started: Date) -> String {
        let counts = self.counts(results)
        let text = JSONWriter.object { json in
            json.member("started", Self.timestamp(started))
            json.member("pace", settings.pace.rawValue)
            if let url = settings.url { json.member("url", url) }
            json.member("client", settings.with ?? "holdfast-swift")
            json.member("passed", counts.passed)
            json.member("failed", counts.failed)
            json.member("errors", counts.errors)
            json.member("not_run", counts.notRun)
            json.member("exit_code", Int(self.exitCode(results)))
            json.member(
                "drills",
                array: { json in
                    for result in results { json.element(object: { json in result.write(&json) }) }
                })
        }
        return String(buffer: text)
    }

    static func junit(_ results: [DrillResult], started: Date) -> String {
        let counts = self.counts(results)
        let seconds = results.map(\.seconds).reduce(0, +)
        var lines = [
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
            "<testsuites>",
            "  <testsuite name=\"holdfast drill\" tests=\"\(results.count)\" failures=\"\(counts.failed)\" "
                + "errors=\"\(counts.errors)\" skipped=\"\(counts.notRun)\" time=\"\(seconds.tenths)\" "
                + "timestamp=\"\(Self.timestamp(started))\">",
        ]
        for result in results {
            lines.append(
                "    <testcase classname=\"holdfast.drill\" "
                    + "name=\"\(Self.escaped("\(result.drill): \(result.fault)"))\" "
                    + "time=\"\(result.seconds.tenths)\">")
            let reason = Self.escaped(result.reason)
            switch result.verdict {
            case .passed: break
            case .failed: lines.append("      <failure message=\"\(reason)\"/>")
            case .error: lines.append("      <error message=\"\(reason)\"/>")
            case .notRun: lines.append("      <skipped message=\"\(reason)\"/>")
            }
            let checks = result.checks.map { "\($0.name): \($0.actual) (\($0.limit))" } + result.notes
            lines.append("      <system-out>\(Self.escaped(checks.joined(separator: "\n")))</system-out>")
            lines.append("    </testcase>")
        }
        return (lines + ["  </testsuite>", "</testsuites>", ""]).joined(separator: "\n")
    }

    private static func timestamp(_ date: Date) -> String { ISO8601DateFormatter().string(from: date) }

    /// XML 1.0 cannot hold control characters at all, not even escaped.
    private static func escaped(_ text: String) -> String {
        String(text.unicodeScalars.map { $0.value < 0x20 && $0 != "\n" ? " " : Character($0) })
            .replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("\"", with: "&quot;").replacing("\n", with: "&#10;")
    }
}
