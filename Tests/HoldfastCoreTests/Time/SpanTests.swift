import Testing

@testable import HoldfastCore

@Suite struct SpanTests {
    @Test func conversions() {
        #expect(Span.seconds(1.5).microseconds == 1_500_000)
        #expect(Span.seconds(0.0000004).microseconds == 0)
        #expect(Span.seconds(0.0000006).microseconds == 1)
        #expect(Span.milliseconds(0.25).microseconds == 250)
        #expect(Span(microseconds: 2500).milliseconds == 2.5)
        #expect(Span(microseconds: 2_500_000).seconds == 2.5)
        #expect(Span.zero < .milliseconds(1))
    }

    @Test func arithmetic() {
        let start = Instant(microseconds: 10)
        #expect(start + .milliseconds(1) == Instant(microseconds: 1010))
        #expect(Instant(microseconds: 7) - start == Span(microseconds: -3))
        #expect(start < start + Span(microseconds: 1))
    }
}
