/// The round-trip time, estimated as in RFC 6298. Pings carry a number of their own, so no sample is ambiguous.
struct RoundTripEstimator {
    /// Both in milliseconds; fractions matter to the estimate.
    private var smoothed: Double?
    private var variation = 0.0

    /// How long an answer may take at least and at most before the line is suspect. Short, because a suspicion costs only
    /// a race.
    private static let waitMin = Span.seconds(1)
    private static let waitMax = Span.seconds(2)

    /// The smoothed round-trip time; `nil` before the first sample.
    var estimate: Span? { self.smoothed.map(Span.milliseconds) }

    mutating func sample(_ roundTrip: Span) {
        let sample = roundTrip.milliseconds
        guard let smoothed = self.smoothed else {
            self.smoothed = sample
            self.variation = sample / 2
            return
        }
        self.variation = 0.75 * self.variation + 0.25 * abs(smoothed - sample)
        self.smoothed = 0.875 * smoothed + 0.125 * sample
    }

    /// How long a pong may take: `clamp(srtt + 4·rttvar + 0.5 s, 1 s, 2 s)`.
    var wait: Span {
        guard let smoothed = self.smoothed else { return Self.waitMax }
        let wait = (smoothed + 4 * self.variation + 500).rounded(.up)
        return min(max(.milliseconds(wait), Self.waitMin), Self.waitMax)
    }
}
