import HoldfastProtocol

/// When to try a callback again (socketshark.md §7, mended as §18 says): connection errors, timeouts, 408, 429, 5xx and answers
/// that are no JSON are tried again; redirects and other 4xx are not.
///
/// Sans-IO: one of these per callback.
public struct CallbackRetry: Sendable {
    public struct Settings: Sendable, Equatable {
        /// Most tries, the first included.
        public var tries: Int
        /// Seconds between two tries.
        public var wait: Double
        /// Where a 429 says how long to wait, in seconds. The first that is there decides.
        public var rateLimitHeaders: [String]

        public init(tries: Int = 3, wait: Double = 3, rateLimitHeaders: [String] = ["X-Rate-Limit-Reset"]) {
            self.tries = tries
            self.wait = wait
            self.rateLimitHeaders = rateLimitHeaders
        }
    }

    public enum Outcome: Sendable, Equatable {
        /// No answer: no connection, no TLS, no complete answer in time, an answer that is too large.
        case failed
        /// `rateLimit`: value of the first of ``Settings/rateLimitHeaders`` that the answer has.
        case answered(status: Int, isJSON: Bool, rateLimit: String?)
    }

    public enum Decision: Sendable, Equatable {
        /// The answer's body is the result.
        case take
        case retry(after: Span)
        /// The result is `Service unavailable.`
        case giveUp
    }

    /// Longest wait that a service can ask for.
    public static let longestWait = 3600.0

    private let settings: Settings
    private var triesLeft: Int
    /// A connection error leaves the last wait in force.
    private var wait: Double

    public init(_ settings: Settings) {
        self.settings = settings
        self.triesLeft = settings.tries
        self.wait = settings.wait
    }

    /// - Returns: whether there is a first try at all.
    public mutating func start() -> Bool {
        self.triesLeft -= 1
        return self.triesLeft >= 0
    }

    public mutating func finished(_ outcome: Outcome) -> Decision {
        switch outcome {
        case .failed: break
        case .answered(let status, let isJSON, let rateLimit):
            if (200..<300).contains(status), isJSON { return .take }
            let isWorthAnother = (200..<300).contains(status) || status == 408 || status == 429 || status >= 500
            guard isWorthAnother else { return .giveUp }
            self.wait = status == 429 ? self.rateLimitWait(rateLimit) : self.settings.wait
        }
        guard self.triesLeft > 0 else { return .giveUp }
        self.triesLeft -= 1
        return .retry(after: .seconds(self.wait))
    }

    private func rateLimitWait(_ text: String?) -> Double {
        let text = text ?? ""
        let isForEver = ["inf", "+inf", "infinity", "+infinity"].contains(text.trimmingBlanks.lowercased())
        guard let seconds = isForEver ? .infinity : Double(decimal: text), seconds >= 0 else {
            return self.settings.wait
        }
        return min(seconds, Self.longestWait)
    }
}
