import HoldfastProtocol
import NIOCore

/// One thing that a drill has measured, and the limit that it was held against.
public struct Check: Sendable, Equatable {
    /// What was measured, such as `noticed after`.
    public let name: String
    /// What was demanded and what there was, with units: `≤ 6 s`, `5.1 s`.
    public let limit: String
    public let actual: String
    public let isPassed: Bool

    public init(_ name: String, limit: String, actual: String, isPassed: Bool) {
        self.name = name
        self.limit = limit
        self.actual = actual
        self.isPassed = isPassed
    }

    /// A length of time that must not be exceeded.
    /// - Parameter seconds: `nil`: it never came, in `observed` seconds.
    static func within(_ limit: Double, _ name: String, _ seconds: Double?, observed: Double) -> Check {
        Check(
            name, limit: "≤ \(limit.tenths) s",
            actual: seconds.map { "\($0.tenths) s" } ?? "not in \(observed.tenths) s",
            isPassed: seconds.map { $0 <= limit } ?? false)
    }

    static func atMost(_ limit: Int, _ name: String, _ count: Int) -> Check {
        Check(name, limit: "≤ \(limit)", actual: "\(count)", isPassed: count <= limit)
    }

    static func atLeast(_ limit: Int, _ name: String, _ count: Int) -> Check {
        Check(name, limit: "≥ \(limit)", actual: "\(count)", isPassed: count >= limit)
    }

    static func holds(_ name: String, _ isPassed: Bool, _ actual: String, limit: String = "yes") -> Check {
        Check(name, limit: limit, actual: actual, isPassed: isPassed)
    }
}

/// How a drill has ended.
public enum Verdict: Sendable, Equatable {
    case passed
    /// A limit was exceeded: the checks say which.
    case failed
    /// The drill could not judge, as when the gateway did not start. Never a pass.
    case error(String)
    /// Something that it needs is not there. Never a pass.
    case notRun(String)

    public var word: String {
        switch self {
        case .passed: "pass"
        case .failed: "FAIL"
        case .error: "ERROR"
        case .notRun: "not run"
        }
    }
}

/// A row of the table.
public struct DrillResult: Sendable, Equatable {
    public let drill: String
    /// What was done, in a few words.
    public let fault: String
    public var verdict: Verdict = .passed
    public var checks: [Check] = []
    /// Seconds from the fault to the client's first sign that it does not trust the line.
    public var noticedAfter: Double?
    /// Seconds from the end of the fault, or from the fault where it does not end, to the next event in the client.
    public var backAfter: Double?
    /// Lines that the client, or all clients together, tried to open after the fault.
    public var attempts: Int?
    /// Counted over all clients.
    public var published = 0
    public var lost = 0
    public var told = 0
    public var doubled = 0
    public var outOfOrder = 0
    /// Of the whole drill.
    public var seconds = 0.0
    /// What is to be known of this run beside the checks.
    public var notes: [String] = []

    public init(drill: String, fault: String) {
        self.drill = drill
        self.fault = fault
    }

    /// The checks that were not met, or what kept the drill from judging.
    public var reason: String {
        switch self.verdict {
        case .passed: ""
        case .failed:
            self.checks.filter { !$0.isPassed }.map { "\($0.name): \($0.actual), must be \($0.limit)" }
                .joined(separator: "; ")
        case .error(let text), .notRun(let text): text
        }
    }

    public func write(_ json: inout JSONWriter) {
        json.member("drill", self.drill)
        json.member("fault", self.fault)
        json.member("verdict", self.verdict.word.lowercased().replacing(" ", with: "_"))
        if !self.reason.isEmpty { json.member("reason", self.reason) }
        if let noticedAfter { json.member("noticed_after", number: noticedAfter.rounded(to: 3)) }
        if let backAfter { json.member("back_after", number: backAfter.rounded(to: 3)) }
        if let attempts { json.member("attempts", attempts) }
        json.member("published", self.published)
        json.member("lost", self.lost)
        json.member("told", self.told)
        json.member("doubled", self.doubled)
        json.member("out_of_order", self.outOfOrder)
        json.member("seconds", number: self.seconds.rounded(to: 1))
        json.member(
            "checks",
            array: { json in
                for check in self.checks {
                    json.element(object: { json in
                        json.member("name", check.name)
                        json.member("limit", check.limit)
                        json.member("actual", check.actual)
                        json.member("passed", check.isPassed)
                    })
                }
            })
        json.member(
            "notes",
            array: { json in
                for note in self.notes { json.element(note) }
            })
    }
}

extension Double {
    /// With one digit behind the point.
    public var tenths: String {
        let tenths = Int((self * 10).rounded())
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(abs(tenths % 10))"
    }

    func rounded(to digits: Int) -> Double {
        var factor = 1.0
        for _ in 0..<digits { factor *= 10 }
        return (self * factor).rounded() / factor
    }
}
