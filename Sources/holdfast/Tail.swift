import ArgumentParser
import Dispatch
import Foundation
import HoldfastClient
import HoldfastCore
import HoldfastProtocol
import NIOCore

struct Tail: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print messages as they come, whatever happens to the line.",
        discussion: """
            One line per message on standard output: subscription, offset (- without history), data byte for byte. \
            What happens to the line goes to standard error: cuts, what was recovered, and gaps with their numbers.
              holdfast tail calls.live
              holdfast tail calls.live jobs.42 2>/dev/null
              holdfast tail calls.live --json | jq .data

            Try to lose something: kill the gateway or pull the cable while you publish. What cannot be had any more is \
            said, with its numbers.

            A topic with history can be read from a place in the past. The place is printed when you leave with Ctrl-C:
              holdfast tail calls.live --since k3f9:41

            Exit code 0 after Ctrl-C. 1 when it can never work, such as a subscription that the gateway refuses; a \
            gateway that cannot be reached is no such case, since it may come back.
            """
    )

    @Argument(help: "What to subscribe to: service.topic.")
    var subscriptions: [String]

    @Option(name: .long, help: "The gateway.")
    var url = "http://127.0.0.1:8080"

    @Option(name: .long, help: ArgumentHelp("Start after this message.", valueName: "EPOCH:OFFSET"))
    var since: String?

    @Flag(name: .long, help: "Print whole events as they came, one per line.")
    var json = false

    @Option(name: .long, help: "A ticket to authenticate with.")
    var ticket: String?

    @Option(name: .long, help: "An HTTP proxy to go through: http://[user:password@]host:port.")
    var proxy: String?

    @Option(
        name: .long,
        help: "What to use: any of websocket,stream,poll. Where WebSockets get through, one is used in the end."
    )
    var transport = Transports(list: ClientTransport.allCases)

    struct Transports: ExpressibleByArgument, CustomStringConvertible {
        let list: [ClientTransport]

        init(list: [ClientTransport]) { self.list = list }

        init?(argument: String) {
            let words = argument.split(separator: ",", omittingEmptySubsequences: false)
            self.list = ClientTransport.allCases.filter { words.contains($0.rawValue[...]) }
            guard self.list.count == words.count else { return nil }
        }

        var description: String { self.list.map(\.rawValue).joined(separator: ",") }
    }

    func validate() throws {
        for subscription in self.subscriptions {
            do throws(ProtocolError) {
                _ = try SubscriptionName(subscription, limit: .max)
            } catch {
                throw ValidationError(
                    "\"\(subscription)\" is no subscription: it has the form service.topic, such as calls.live.")
            }
        }
        if self.since != nil {
            guard self.subscriptions.count == 1 else {
                throw ValidationError("--since is a place in one topic: give one subscription.")
            }
            guard self.position != nil else {
                throw ValidationError(
                    "--since has the form EPOCH:OFFSET, such as k3f9:41; a subscriber prints it when it leaves.")
            }
        }
        if let proxy = self.proxy, HTTPProxy(url: proxy) == nil {
            throw ValidationError("--proxy has the form http://host:port or http://user:password@host:port.")
        }
        do {
            _ = try GatewayURL(self.url)
        } catch {
            throw ValidationError("\(error)")
        }
    }

    private var position: Position? {
        self.since.flatMap { Position($0) }
    }

    func run() async throws {
        var configuration = try ClientConfiguration(url: self.url)
        configuration.machine.clientName = "holdfast tail"
        configuration.machine.clientVersion = HoldfastCommand.configuration.version
        configuration.machine.transports = self.transport.list
        configuration.proxy = self.proxy.flatMap { HTTPProxy(url: $0) }
        if let ticket = self.ticket {
            configuration.credentials = { .ticket(ticket) }
            configuration.renewsCredentials = false
        }
        let connection = try ClientConnection(configuration)
        let signals = [SIGINT, SIGTERM].map { onSignal($0) { connection.close() } }
        defer {
            for signal in signals { signal.cancel() }
        }
        for subscription in self.subscriptions { connection.subscribe(subscription, since: self.position) }
        connection.connect()
        var log = TailLog(url: configuration.url, clock: { connection.now })
        var failure: String?
        for await event in connection.events {
            if case .news(.message(let message)) = event {
                guard self.print(message) else {
                    // Nobody reads any more, as with `| head`.
                    connection.close()
                    break
                }
                log.received(message)
                continue
            }
            for line in log.words(for: event) { printError(line) }
            guard let reason = log.hopeless(event), failure == nil else { continue }
            failure = reason
            connection.close()
        }
        if let failure {
            printError(failure)
            throw ExitCode.failure
        }
        log.goodbye.map(printError)
    }

    /// - Returns: `false` if standard output is gone.
    private func print(_ message: WireEvent) -> Bool {
        var line = ByteBuffer()
        if self.json {
            line.writeImmutableBuffer(message.text)
        } else {
            line.writeString("\(message.subscription ?? "-") \(message.offset.map(String.init) ?? "-") ")
            if let data = message.data { line.writeImmutableBuffer(data) }
        }
        line.writeString("\n")
        do {
            try FileHandle.standardOutput.write(contentsOf: Data(line.readableBytesView))
            return true
        } catch {
            return false
        }
    }
}

/// Says in words what happens to a connection.
struct TailLog {
    private let url: GatewayURL
    private let clock: () -> Instant
    /// Why the last line or attempt has ended.
    private var lastEnd = "the line was lost"
    private var hasBeenConnected = false
    /// What carries the session.
    private var transport = ClientTransport.websocket
    /// The app has been without a line since.
    private var isAway = false
    private var subscribed = Set<String>()
    private var positions: [String: Position] = [:]

    init(url: GatewayURL, clock: @escaping () -> Instant) {
        self.url = url
        self.clock = clock
    }

    mutating func received(_ message: WireEvent) {
        guard let subscription = message.subscription, let offset = message.offset else { return }
        self.positions[subscription]?.offset = offset
    }

    /// How to go on from here.
    var goodbye: String? {
        guard self.positions.count == 1, let (name, position) = self.positions.first else { return nil }
        return "go on from here: holdfast tail \(name) --since \(position)"
    }

    /// - Returns: the reason, if it can never work.
    func hopeless(_ event: ConnectionEvent) -> String? {
        switch event {
        case .news(.unsubscribed(let subscription, let event)):
            guard let error = event.error else { return nil }
            let what = self.subscribed.contains(subscription) ? "ended" : "refused"
            return "\(subscription): \(what) by the gateway: \(error)\(event.code.map { " (\($0))" } ?? "")"
        case .news(.state(let change)) where change.state == .closed && change.reason != .closedByApp:
            return "closed for good: \(change.reason.rawValue.replacing("_", with: " "))"
        case .news, .line, .began:
            return nil
        }
    }

    mutating func words(for event: ConnectionEvent) -> [String] {
        switch event {
        case .news(let news): return self.words(for: news)
        case .began, .line(.opening), .line(.cut): return []
        case .line(.carried(let transport)):
            self.transport = transport
            return []
        case .line(.ended(_, _, let reason)):
            self.lastEnd = reason
            return []
        case .line(.suspect): return ["suspect: no answer in time; trying a second line beside this one"]
        case .line(.trusted): return ["the line has answered after all, and is kept"]
        }
    }

    private mutating func words(for news: ConnectionNews) -> [String] {
        switch news {
        case .state(let change): return self.words(for: change)
        case .connected(let isResumed, let event): return [self.connected(isResumed, event)]
        case .subscribed(let name, let since, let event): return [self.subscribed(name, since, event)]
        case .gap(let name, let after, let next): return [Self.gap(name, after, next)]
        case .goaway(let at, let event):
            let reason = event["reason"]?.string.map { " (\($0))" } ?? ""
            return ["the gateway asks us to go elsewhere\(reason): moving \(self.delay(until: at))"]
        case .problem(let problem): return ["\(problem.code): \(problem.text)"]
        case .message, .unsubscribed, .reply, .roundTrip: return []
        }
    }

    private mutating func words(for change: ConnectionStateChange) -> [String] {
        switch change.state {
        case .idle, .connected, .closed: return []
        case .connecting: return ["connecting to \(self.url)"]
        case .suspended:
            self.isAway = true
            return ["no network: waiting for it"]
        case .reconnecting:
            self.isAway = true
            let why = self.why(change.reason)
            guard let at = change.nextAttemptAt else { return ["\(why): going over to the second line"] }
            return ["reconnecting \(self.delay(until: at)) because \(why)"]
        }
    }

    private func why(_ reason: ConnectionReason) -> String {
        switch reason {
        case .lineClosed: self.lastEnd
        case .dead: "the line is dead, it did not answer"
        case .connectTimeout: "nobody has answered in time"
        case .helloRefused: "the gateway refused the session"
        case .badCount: "the gateway and we have counted differently"
        case .offline, .online: "the network has changed"
        case .shown, .doubt, .connect: "we were asked to"
        case .lateTimer: "this computer was asleep"
        case .newSession, .resumed: "of a new line"
        case .closedByApp, .replaced, .forbidden, .authenticationExpired, .maxAttempts: "it was closed"
        }
    }

    private func delay(until at: Instant) -> String {
        let seconds = max(0, (at - self.clock()).seconds)
        return seconds < 0.05 ? "at once" : "in \((seconds * 10).rounded() / 10) s"
    }

    private mutating func connected(_ isResumed: Bool, _ event: WireEvent) -> String {
        defer {
            self.hasBeenConnected = true
            self.isAway = false
        }
        let node = event["node"]?.string.map { "node \($0), " } ?? ""
        let handle = event.sessionHandle.map { "session \($0)" } ?? "session"
        if isResumed {
            return self.isAway
                ? "recovered\(self.over): the session was resumed, nothing is lost"
                : "moved to another line\(self.over), nothing is lost"
        }
        guard self.hasBeenConnected else { return "connected\(self.over) (\(node)\(handle))" }
        return "connected again\(self.over), but the old session is gone (\(node)\(handle)): asking for what was missed"
    }

    /// A WebSocket is what people expect.
    private var over: String {
        switch self.transport {
        case .websocket: ""
        case .stream: " over an event stream"
        case .poll: " over long polling"
        }
    }

    private mutating func subscribed(_ name: String, _ since: Position?, _ event: WireEvent) -> String {
        let isAgain = !self.subscribed.insert(name).inserted
        let position = event.position
        if since == nil || since?.epoch != position?.epoch { self.positions[name] = position }
        if self.positions[name] == nil { self.positions[name] = since }
        let verb = isAgain ? "resubscribed" : "subscribed"
        guard let position else { return "\(name): \(verb); it keeps no history" }
        guard let since else { return "\(name): \(verb); newest message is \(position)" }
        guard event.isRecovered else { return "\(name): \(verb), but not all of the history is there" }
        let missed = position.offset >= since.offset ? position.offset - since.offset : 0
        switch missed {
        case 0: return "\(name): \(verb); recovered, nothing was missed"
        case 1: return "\(name): \(verb); recovered, the one missed message follows"
        default: return "\(name): \(verb); recovered, the \(missed) missed messages follow"
        }
    }

    private static func gap(_ name: String, _ after: UInt64?, _ next: UInt64?) -> String {
        switch (after, next) {
        case (let after?, let next?) where next > after && next - after == 2:
            "\(name): GAP: message \(after + 1) is lost"
        case (let after?, let next?) where next > after:
            "\(name): GAP: messages \(after + 1) to \(next - 1) are lost (\(next - after - 1))"
        case (_, let next?):
            "\(name): GAP: the stream has begun anew and goes on with message \(next); how many are lost is not known"
        case (_, nil):
            "\(name): GAP: messages are lost, how many is not known"
        }
    }
}
