extension Span {
    static func + (left: Span, right: Span) -> Span { Span(microseconds: left.microseconds + right.microseconds) }

    static func - (left: Span, right: Span) -> Span { Span(microseconds: left.microseconds - right.microseconds) }

    static func * (span: Span, factor: Int64) -> Span { Span(microseconds: span.microseconds * factor) }

    /// In whole milliseconds, as the JavaScript machine has it.
    func scaled(by factor: Double) -> Span { .milliseconds((self.milliseconds * factor).rounded(.down)) }

    /// Seconds that another program has sent, rounded to whole milliseconds. A number too large for a clock becomes
    /// a very long time (31 years) instead of an overflow.
    init(bounded seconds: Double, _ rule: FloatingPointRoundingRule) {
        self = .milliseconds((min(seconds, 1e9) * 1000).rounded(rule))
    }
}

extension Instant {
    static func - (instant: Instant, span: Span) -> Instant {
        Instant(microseconds: instant.microseconds - span.microseconds)
    }
}
