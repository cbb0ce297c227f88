import CoreMetrics
import HoldfastCore
import Logging
import Metrics

/// Writes what happens to a client into its log and its metrics. Names no secrets.
struct ClientWatch: Sendable {
    private let logger: Logger
    private let messages: Counter
    private let gaps: Counter
    private let sessions: Counter
    private let resumed: Counter
    private let losses: Counter
    private let problems: Counter
    private let roundTrip: Metrics.Timer
    private let attempts: [ClientTransport: Counter]

    init(_ configuration: ClientConfiguration) {
        var logger = configuration.logger
        logger[metadataKey: "gateway"] = "\(configuration.url.hostHeader)"
        self.logger = logger
        let factory = configuration.metrics ?? MetricsSystem.factory
        func counter(_ name: String, _ dimensions: [(String, String)] = []) -> Counter {
            Counter(label: "holdfast_client_\(name)_total", dimensions: dimensions, factory: factory)
        }
        self.messages = counter("messages")
        self.gaps = counter("gaps")
        self.sessions = counter("sessions")
        self.resumed = counter("sessions_resumed")
        self.losses = counter("lines_lost")
        self.problems = counter("problems")
        self.roundTrip = Metrics.Timer(label: "holdfast_client_round_trip", dimensions: [], factory: factory)
        self.attempts = Dictionary(
            uniqueKeysWithValues: ClientTransport.allCases.map {
                ($0, counter("attempts", [("transport", $0.rawValue)]))
            })
    }

    func saw(_ event: ConnectionEvent) {
        switch event {
        case .news(let news): self.saw(news)
        case .line(let news): self.saw(news)
        case .began: break
        }
    }

    private func saw(_ news: ConnectionNews) {
        switch news {
        case .message: self.messages.increment()
        case .state(let change):
            self.logger.debug("\(change.state.rawValue)", metadata: ["reason": "\(change.reason.rawValue)"])
        case .connected(let isResumed, let event):
            (isResumed ? self.resumed : self.sessions).increment()
            self.logger.info(
                isResumed ? "the session goes on" : "a new session",
                metadata: ["session": "\(event.sessionHandle ?? "")", "node": "\(event["node"]?.string ?? "")"])
        case .gap(let name, let after, let next):
            self.gaps.increment()
            self.logger.warning(
                "messages are lost",
                metadata: [
                    "subscription": "\(name)", "after": "\(after.map(String.init) ?? "unknown")",
                    "next": "\(next.map(String.init) ?? "unknown")",
                ])
        case .roundTrip(let last, _): self.roundTrip.recordNanoseconds(last.microseconds * 1000)
        case .problem(let problem):
            self.problems.increment()
            self.logger.warning("\(problem.text)", metadata: ["code": "\(problem.code)"])
        case .goaway: self.logger.info("the gateway asks us to go elsewhere")
        case .unsubscribed(let name, let event):
            guard let error = event.error else { return }
            self.logger.warning("\(error)", metadata: ["subscription": "\(name)"])
        case .subscribed, .reply: break
        }
    }

    private func saw(_ news: LineNews) {
        switch news {
        case .opening(_, let transport): self.attempts[transport]?.increment()
        case .ended(_, let code, let reason):
            self.losses.increment()
            self.logger.debug("a line has ended", metadata: ["reason": "\(reason)", "code": "\(code)"])
        case .suspect: self.logger.info("no answer in time, trying a second line beside this one")
        case .cut(_, let reason): self.logger.debug("a request to listen was cut", metadata: ["reason": "\(reason)"])
        case .carried, .trusted: break
        }
    }
}
