import AsyncHTTPClient
import DequeModule
import HoldfastCore
import HoldfastProtocol
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import NIOSSL

/// Calls services over HTTP (socketshark.md §7): connections are kept and shared, tries and waits follow
/// ``HoldfastCore/CallbackRetry``, and only so many are under way at once.
final class CallbackClient: Sendable {
    private let settings: Configuration.HTTP
    private let client: HTTPClient
    private let logger: Logger
    private let slots: Slots
    private let json: JSONLimits
    let metrics = NIOLockedValueBox(CallbackMetrics())

    init(_ configuration: Configuration, eventLoopGroup: any EventLoopGroup, logger: Logger) throws {
        self.settings = configuration.http
        self.json = configuration.publishingRules.json
        self.logger = logger
        let limits = configuration.limits
        self.slots = Slots(
            limit: limits.callbacks, waiting: limits.waitingCallbacks, bytes: limits.callbackBytes
        )
        var client = HTTPClient.Configuration()
        client.redirectConfiguration = .disallow
        // The slots bound each address by itself; several may be on one host.
        let addresses = configuration.services.values.reduce(1) { $0 + $1.callbacks.count }
        client.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = limits.callbacks * addresses
        // Shorter than what servers keep idle connections for: a request on one that is just being closed fails.
        client.connectionPool.idleTimeout = .seconds(1)
        // Tries and waits are ours.
        client.connectionPool.retryConnectionEstablishment = false
        client.httpVersion = .http1Only
        if let file = self.settings.certificateAuthorities {
            var tls = TLSConfiguration.makeClientConfiguration()
            tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(file))
            client.tlsConfiguration = tls
        }
        self.client = HTTPClient(eventLoopGroupProvider: .shared(eventLoopGroup), configuration: client)
    }

    func shutdown() async {
        do {
            try await self.client.shutdown()
        } catch {
            self.logger.warning("callbacks: the HTTP client did not stop", metadata: ["error": "\(error)"])
        }
    }

    /// Makes the callback, with all its tries.
    /// - Parameter body: a JSON object.
    func call(_ callback: Callback, _ url: ServiceURL, _ body: ByteBuffer) async -> CallbackAnswer {
        let start = ContinuousClock.now
        let answer = await self.attempt(callback, url, body)
        let outcome =
            switch answer {
            case .object(let object): object["status"]?.string == "ok" ? "ok" : "refused"
            case .unavailable: "unavailable"
            case .malformed: "malformed"
            }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        self.metrics.withLockedValue { $0.record(callback, outcome, seconds: seconds) }
        return answer
    }

    private func attempt(_ callback: Callback, _ url: ServiceURL, _ body: ByteBuffer) async -> CallbackAnswer {
        var retry = CallbackRetry(self.settings.retry)
        guard retry.start() else { return .unavailable }
        guard self.slots.reserve(bytes: body.readableBytes) else {
            self.note(callback, url, "more than limits.callback_bytes are under way")
            return .unavailable
        }
        defer { self.slots.free(bytes: body.readableBytes) }
        while true {
            guard await self.slots.enter(url) else {
                self.note(callback, url, "more than limits.waiting_callbacks wait")
                return .unavailable
            }
            let (outcome, answer) = await self.post(callback, url, body)
            self.slots.leave(url)
            switch retry.finished(outcome) {
            case .take: return self.read(callback, url, answer)
            case .giveUp: return .unavailable
            case .retry(let after):
                self.metrics.withLockedValue { $0.retries += 1 }
                try? await Task.sleep(for: .microseconds(after.microseconds))
            }
        }
    }

    private func post(
        _ callback: Callback,
        _ url: ServiceURL,
        _ body: ByteBuffer
    ) async -> (CallbackRetry.Outcome, ByteBuffer) {
        var request = HTTPClientRequest(url: url.text)
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/json")
        request.headers.add(name: "Accept", value: "*/*")
        request.headers.add(name: "User-Agent", value: "holdfast")
        if let authorization = url.authorization { request.headers.add(name: "Authorization", value: authorization) }
        request.body = .bytes(body)
        do {
            let (response, answer) = try await self.exchange(request)
            let status = Int(response.status.code)
            let isJSON = Self.isJSON(response.headers.first(name: "content-type"))
            if !(200..<300).contains(status) || !isJSON {
                let type = response.headers.first(name: "content-type") ?? "none"
                self.note(callback, url, "answered \(status), content type \(type)")
            }
            let rateLimit = self.settings.retry.rateLimitHeaders.lazy
                .compactMap { response.headers.first(name: $0) }.first
            if status == 429, rateLimit == nil {
                self.note(callback, url, "got a 429 but no rate limit reset header found in response")
            }
            return (.answered(status: status, isJSON: isJSON, rateLimit: rateLimit), answer)
        } catch {
            self.note(callback, url, "\(error)")
            return (.failed, ByteBuffer())
        }
    }

    /// The whole of it within the time: the library's own deadline ends with the answer's head.
    private func exchange(_ request: HTTPClientRequest) async throws -> (HTTPClientResponse, ByteBuffer) {
        try await withThrowingTaskGroup(of: (HTTPClientResponse, ByteBuffer)?.self) { group in
            defer { group.cancelAll() }
            group.addTask {
                let deadline = NIODeadline.now() + .milliseconds(Int64(self.settings.timeout * 1000))
                let response = try await self.client.execute(request, deadline: deadline, logger: self.logger)
                return (response, try await response.body.collect(upTo: self.settings.responseBytes))
            }
            group.addTask {
                try await Task.sleep(for: .seconds(self.settings.timeout))
                return nil
            }
            guard let exchange = try await group.next() ?? nil else { throw CallbackTimeout() }
            return exchange
        }
    }

    private struct CallbackTimeout: Error, CustomStringConvertible {
        var description: String { "no complete answer within http.timeout" }
    }

    /// `application/json` or `application/<anything>+json`, with whatever behind it.
    static func isJSON(_ type: String?) -> Bool {
        guard let type = type?.lowercased(), type.hasPrefix("application/") else { return false }
        let subtype = type.dropFirst("application/".count)
        if subtype.hasPrefix("json") { return true }
        let name = subtype.prefix { $0.isLetter || $0.isNumber || "_.+-".contains($0) }
        return name.contains("+json") && !name.hasPrefix("+")
    }

    private func read(_ callback: Callback, _ url: ServiceURL, _ answer: ByteBuffer) -> CallbackAnswer {
        do throws(JSONError) {
            return .object(try JSONObject(parsing: answer, limits: self.json))
        } catch {
            self.note(callback, url, "the answer cannot be read: \(error)")
            return .malformed
        }
    }

    private func note(_ callback: Callback, _ url: ServiceURL, _ text: String) {
        self.logger.warning(
            "callback", metadata: ["callback": "\(callback.rawValue)", "url": "\(url)", "problem": "\(text)"]
        )
    }
}

/// Bounds how many are under way at once to each address, so that a slow service does not take what others need; others wait
/// in order.
private final class Slots: Sendable {
    private struct Queue {
        var free: Int
        var waiting = Deque<CheckedContinuation<Void, Never>>()
    }

    private struct State {
        /// As many as the configuration has addresses.
        var queues: [ServiceURL: Queue] = [:]
        var bytes = 0
    }

    private let limit: Int
    private let waitingLimit: Int
    private let bytesLimit: Int
    private let state = NIOLockedValueBox(State())

    init(limit: Int, waiting: Int, bytes: Int) {
        self.limit = limit
        self.waitingLimit = waiting
        self.bytesLimit = bytes
    }

    /// - Returns: `false` if the requests under way take too much memory. A single one always passes.
    func reserve(bytes: Int) -> Bool {
        self.state.withLockedValue { state in
            guard state.bytes == 0 || state.bytes + bytes <= self.bytesLimit else { return false }
            state.bytes += bytes
            return true
        }
    }

    func free(bytes: Int) { self.state.withLockedValue { $0.bytes -= bytes } }

    /// - Returns: `false` if too many wait.
    func enter(_ url: ServiceURL) async -> Bool {
        let isFull = self.state.withLockedValue { state in
            guard let queue = state.queues[url] else { return false }
            return queue.free == 0 && queue.waiting.count >= self.waitingLimit
        }
        guard !isFull else { return false }
        await withCheckedContinuation { continuation in
            let isFree = self.state.withLockedValue { state in
                var queue = state.queues.removeValue(forKey: url) ?? Queue(free: self.limit)
                defer { state.queues[url] = queue }
                guard queue.free == 0 else {
                    queue.free -= 1
                    return true
                }
                queue.waiting.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
        return true
    }

    func leave(_ url: ServiceURL) {
        let next = self.state.withLockedValue { state -> CheckedContinuation<Void, Never>? in
            if let next = state.queues[url]?.waiting.popFirst() { return next }
            state.queues[url]?.free += 1
            return nil
        }
        next?.resume()
    }
}

/// How long services took, by callback and outcome.
struct CallbackMetrics: Sendable {
    struct Label: Hashable, Sendable {
        let callback: Callback
        let outcome: String
    }

    struct Histogram: Sendable {
        /// Upper bounds in seconds; what is above the last is in `count` only.
        static let bounds = [0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 60]
        var buckets = Array(repeating: 0, count: bounds.count)
        var count = 0
        var sum = 0.0
    }

    var histograms: [Label: Histogram] = [:]
    var retries = 0

    mutating func record(_ callback: Callback, _ outcome: String, seconds: Double) {
        let label = Label(callback: callback, outcome: outcome)
        var histogram = self.histograms[label] ?? Histogram()
        histogram.count += 1
        histogram.sum += seconds
        for (index, bound) in Histogram.bounds.enumerated() where seconds <= bound { histogram.buckets[index] += 1 }
        self.histograms[label] = histogram
    }
}
