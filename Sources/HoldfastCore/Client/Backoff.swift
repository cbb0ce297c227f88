/// When to try again (client.md, Reconnecting).
///
/// Clients that were dropped together spread out with their first attempt, and stay so: the next ones come a ``turn``
/// later at least. With less than that, those who come for the second time meet those who come for the first.
struct Backoff {
    /// Lines since the last useful one that did not open, or did not live long enough to be useful.
    var failures = 0
    /// From the last `hello`: over how long the server wants its clients to come back.
    var spread = Span.seconds(1)
    private let random: () -> Double

    private static let base = Span.milliseconds(500)
    private static let cap = Span.seconds(10)
    /// A long spread raises the cap to twice its length, but not beyond this.
    private static let capOfSpread = Span.seconds(120)
    private static let capWhileHidden = Span.seconds(300)

    /// - Parameter random: in 0..<1; asked only when a delay is drawn from a range that is not empty.
    init(random: @escaping () -> Double) {
        self.random = random
    }

    /// A random length of time, in whole milliseconds above the lower bound.
    func draw(from range: ClosedRange<Span>) -> Span {
        let width = range.upperBound - range.lowerBound
        guard width > .zero else { return range.lowerBound }
        return range.lowerBound + .milliseconds((self.random() * width.milliseconds).rounded(.down))
    }

    /// The server's advice as a range. A single number is spread too, else all that got it would come at the same moment.
    /// - Returns: `nil` for advice that cannot be.
    func range(_ advice: RetryAfter?) -> ClosedRange<Span>? {
        guard let advice else { return nil }
        let bounds: (from: Double, to: Double)
        switch advice {
        case .seconds(let seconds): bounds = (seconds, seconds + self.spread.seconds)
        case .between(let from, let to): bounds = (from, to)
        }
        guard bounds.from >= 0, bounds.to >= bounds.from, bounds.to < .infinity else { return nil }
        return Span(bounded: bounds.from, .toNearestOrAwayFromZero)...Span(bounded: bounds.to, .toNearestOrAwayFromZero)
    }

    /// Between two knocks of a client at a server that is away lies at least this: then all others have had theirs. Half
    /// more than the spread, so that at no time much more than two thirds of them come of whom the server can take back.
    var turn: Span { self.spread.scaled(by: 1.5) }

    /// - Parameters:
    ///   - suspected: it was our own suspicion that ended the line, so nobody else lost theirs.
    ///   - advice: moves the range, and never shortens it.
    ///   - spent: how long the attempt took that has failed, which counts; `nil`: the server has answered.
    func delay(
        suspected: Bool,
        isHidden: Bool,
        advice: ClosedRange<Span>? = nil,
        spent: Span? = nil
    ) -> Span {
        let cap = isHidden ? Self.capWhileHidden : min(max(Self.cap, self.spread * 2), Self.capOfSpread)
        var longest = suspected ? .zero : self.turn
        if self.failures > 0 {
            longest = min(cap, max(self.spread * 2, Self.base * (1 << Int64(min(self.failures, 16)))))
        }
        if let advice { return self.draw(from: advice.lowerBound...max(advice.upperBound, longest)) }
        guard let spent else { return self.draw(from: .zero...longest) }
        // Three quarters of it where the cap has cut it.
        let shortest = min(self.turn, longest.scaled(by: 0.75))
        let saved = min(shortest, spent)
        return self.draw(from: shortest - saved...longest - saved)
    }
}

/// When a server wants a client to come back: `Retry-After` of a refused connection, `retry_after` of an event.
public enum RetryAfter: Sendable, Equatable {
    case seconds(Double)
    /// A random time between the two; in seconds.
    case between(Double, Double)
}
