/// Faults over time, as text:
///
///     # a lunch break of the network
///     at 5s:   cut both
///     at 65s:  restore, latency-ms 300, jitter-ms 100
///     every 10s from 70s until 120s: reset newest
///     repeat after 130s
public struct FaultScript: Sendable, Equatable {
    struct Step: Sendable, Equatable {
        /// Of the text, from 1.
        var line: Int
        var commands: [FaultCommand]
        var first: Duration
        /// `nil`: once.
        var interval: Duration?
        /// The last at or before it.
        var last: Duration?
    }

    /// Bytes of a script.
    public static let sizeLimit = 1 << 20
    /// A time.
    public static let timeLimit = Duration.seconds(30 * 86_400)
    /// Between two of `every`.
    public static let shortestInterval = Duration.milliseconds(10)

    let steps: [Step]
    /// When it begins anew.
    let period: Duration?

    /// - Throws: ``FaultsError`` that names the line.
    public init(_ text: String) throws(FaultsError) {
        guard text.utf8.count <= Self.sizeLimit else {
            throw FaultsError("a script has at most \(Self.sizeLimit) bytes; this one has \(text.utf8.count)")
        }
        var steps: [Step] = []
        var period: (time: Duration, line: Int)?
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let line = line.prefix { $0 != "#" }
            let words = line.split(maxSplits: 1) { $0 == " " || $0 == "\t" }
            guard let word = words.first else { continue }
            do throws(FaultsError) {
                switch word {
                case "at", "every": steps.append(try Self.step(line, number: index + 1))
                case "repeat":
                    guard period == nil else { throw FaultsError("repeat stands in line \(period?.line ?? 0) already") }
                    period = (try Self.period(line), index + 1)
                default:
                    throw FaultsError(
                        "a line begins with at, every or repeat, such as \"at 5s: cut\"; this one with \(quoted(word))"
                    )
                }
            } catch {
                throw FaultsError("line \(index + 1): \(error)")
            }
        }
        guard !steps.isEmpty else {
            throw FaultsError("the script does nothing: write a line such as \"at 5s: cut both\"")
        }
        if let period, let late = steps.first(where: { $0.first >= period.time }) {
            throw FaultsError(
                "line \(late.line): that is never reached, since line \(period.line) begins anew before it")
        }
        self.steps = steps
        self.period = period?.time
    }

    // MARK: Lines

    private static func step(_ line: Substring, number: Int) throws(FaultsError) -> Step {
        let halves = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard halves.count == 2 else {
            throw FaultsError("what to do stands behind a colon, such as \"at 5s: cut both\"")
        }
        let words = halves[0].split { $0 == " " || $0 == "\t" }.map(String.init)
        guard words.count >= 2 else { throw FaultsError("\(words[0]) must be followed by a time, such as 5s") }
        let time = try Self.time(words[1])
        var step = Step(line: number, commands: try FaultCommand.list(halves[1]), first: time)
        var rest = words.dropFirst(2)
        if words[0] == "every" {
            guard time >= Self.shortestInterval else {
                throw FaultsError("every must be at least \(Self.shortestInterval); it is \(words[1])")
            }
            step.interval = time
            if rest.first == "from", rest.count >= 2 {
                step.first = try Self.time(rest.dropFirst().first!)
                rest = rest.dropFirst(2)
            }
            if rest.first == "until", rest.count >= 2 {
                step.last = try Self.time(rest.dropFirst().first!)
                rest = rest.dropFirst(2)
            }
        }
        if let word = rest.first {
            let known = words[0] == "every" ? "from TIME and until TIME" : "nothing more"
            throw FaultsError("behind the time of \(words[0]) may stand \(known), then a colon; it is \(quoted(word))")
        }
        if let last = step.last, last < step.first {
            throw FaultsError("until \(last) lies before the first, which is at \(step.first)")
        }
        return step
    }

    private static func period(_ line: Substring) throws(FaultsError) -> Duration {
        let words = line.split { $0 == " " || $0 == "\t" }.map(String.init)
        guard words.count == 3, words[1] == "after" else { throw FaultsError("write \"repeat after 120s\"") }
        let time = try Self.time(words[2])
        guard time >= Self.shortestInterval else {
            throw FaultsError("repeat after must be at least \(Self.shortestInterval); it is \(words[2])")
        }
        return time
    }

    /// A number with its unit: `500ms`, `5s`, `1.5m`, `2h`.
    private static func time(_ text: String) throws(FaultsError) -> Duration {
        let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)]
        let number = text.prefix { $0.isNumber || $0 == "." }
        guard let unit = units.first(where: { $0.0 == text.dropFirst(number.count) }), let value = Double(number) else {
            throw FaultsError("a time is a number with ms, s, m or h, such as 1.5s; it is \(quoted(text))")
        }
        let seconds = value * unit.1
        guard seconds <= Double(Self.timeLimit.components.seconds) else {
            throw FaultsError("a time is at most \(Self.timeLimit.components.seconds / 3_600)h; it is \(quoted(text))")
        }
        return .milliseconds((seconds * 1_000).rounded())
    }
}
