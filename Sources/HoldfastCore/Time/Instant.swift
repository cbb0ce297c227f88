/// A point on a monotonic clock. Machines get it as an argument and never read a clock themselves.
public struct Instant: Sendable, Hashable, Comparable {
    /// Microseconds since an arbitrary start.
    public var microseconds: Int64

    public init(microseconds: Int64) {
        self.microseconds = microseconds
    }

    public static func < (left: Instant, right: Instant) -> Bool { left.microseconds < right.microseconds }

    public static func + (instant: Instant, span: Span) -> Instant {
        Instant(microseconds: instant.microseconds + span.microseconds)
    }

    public static func - (left: Instant, right: Instant) -> Span {
        Span(microseconds: left.microseconds - right.microseconds)
    }
}

/// A length of time. `Duration` would serve, but takes 16 bytes, and a gateway keeps several per session.
public struct Span: Sendable, Hashable, Comparable {
    public var microseconds: Int64

    public init(microseconds: Int64) {
        self.microseconds = microseconds
    }

    public static let zero = Span(microseconds: 0)

    public static func seconds(_ seconds: Double) -> Span {
        Span(microseconds: Int64((seconds * 1_000_000).rounded()))
    }

    public static func milliseconds(_ milliseconds: Double) -> Span {
        Span(microseconds: Int64((milliseconds * 1_000).rounded()))
    }

    public var seconds: Double { Double(self.microseconds) / 1_000_000 }

    public var milliseconds: Double { Double(self.microseconds) / 1_000 }

    public static func < (left: Span, right: Span) -> Bool { left.microseconds < right.microseconds }
}
