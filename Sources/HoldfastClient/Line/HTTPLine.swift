import AsyncHTTPClient
import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOHTTP1
import Synchronization

/// A line of HTTP requests (protocol.md, Endpoints): one opens the session, others take batches of events to the gateway one
/// after the other, and a stream or a poll brings events from it.
final class HTTPLine: ClientLine {
    let id: Int
    private weak var owner: (any LineOwner)?
    private let client: HTTPClient
    private let url: GatewayURL
    private let headers: HTTPHeaders
    private let loop: any EventLoop
    /// Seconds for an answer that need not wait for anything.
    private let patience: Double
    private let messageBytes: Int
    private var name: SessionName?
    private var batch: [(text: ByteBuffer, number: UInt64?)] = []
    private var sending: Task<Void, Never>?
    private var listening: Task<Void, Never>?
    /// Tells an answer that was not waited for any more from the one that is.
    private var listened: UInt64 = 0
    /// Numbers requests to listen over all lines, so that the gateway knows one that was given up and comes late.
    private static let listens = Atomic<UInt64>(0)
    /// What has come while the owner was paused, and goes on when it is not.
    private var waiting: [() -> Void] = []

    init(
        id: Int,
        client: HTTPClient,
        configuration: ClientConfiguration,
        loop: any EventLoop,
        owner: any LineOwner
    ) {
        self.id = id
        self.client = client
        self.url = configuration.url
        self.headers = HTTPHeaders(configuration.headers.map { ($0.key, $0.value) })
        self.loop = loop
        self.patience = configuration.machine.connectTimeout.seconds
        self.messageBytes = configuration.messageBytes
        self.owner = owner
    }

    // MARK: For the owner

    func send(_ text: ByteBuffer, number: UInt64?) { self.batch.append((text, number)) }

    func setReading(_ isReading: Bool) {}

    func readMessages() {
        while !self.waiting.isEmpty, self.owner?.isPaused == false { self.waiting.removeFirst()() }
    }

    func letGo(code: CloseCode?) {
        self.owner = nil
        self.sending?.cancel()
        self.listening?.cancel()
        for resume in self.waiting { resume() }
        self.waiting = []
    }

    private func end(_ end: LineEnd) {
        let owner = self.owner
        self.letGo(code: nil)
        owner?.ended(self, end)
    }

    /// Runs `body` when the owner takes more.
    private func whenRead(_ body: @escaping () -> Void) {
        if self.waiting.isEmpty, self.owner?.isPaused != true { return body() }
        self.waiting.append(body)
    }

    // MARK: Requests

    private enum Answer: Sendable {
        case whole(HTTPResponseStatus, HTTPHeaders, ByteBuffer)
        case failed(String)
    }

    private func request(_ method: HTTPMethod, _ path: String, _ body: ByteBuffer? = nil) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: self.url.http(path))
        request.method = method
        request.headers = self.headers
        request.headers.replaceOrAdd(name: "User-Agent", value: "holdfast-swift")
        if let name = self.name {
            request.headers.replaceOrAdd(name: "Authorization", value: "Holdfast \(name.revealedSecret)")
        }
        if let body {
            request.headers.replaceOrAdd(name: "Content-Type", value: "application/json")
            request.body = .bytes(body)
        }
        return request
    }

    /// - Parameter tries: how often a request that found nobody is made. Only those that may be repeated are.
    private func perform(
        _ request: HTTPClientRequest,
        seconds: Double,
        tries: Int,
        _ completion: @escaping (Answer) -> Void
    ) -> Task<Void, Never> {
        let (client, limit, loop) = (self.client, self.messageBytes, self.loop)
        let bound = NIOLoopBound(completion, eventLoop: loop)
        return Task {
            var answer = Answer.failed("")
            for _ in 0..<tries {
                do {
                    let response = try await client.execute(request, timeout: .milliseconds(Int64(seconds * 1000)))
                    let body = try await response.body.collect(upTo: limit)
                    answer = .whole(response.status, response.headers, body)
                    // A proxy that could not reach the gateway: the request may not have arrived.
                    guard response.status == .badGateway || response.status == .gatewayTimeout else { break }
                } catch {
                    answer = .failed(describe(error))
                    if Task.isCancelled { return }
                }
            }
            loop.execute { [answer] in bound.value(answer) }
        }
    }

    // MARK: Sending

    func flush() {
        guard self.sending == nil, let first = self.batch.first else { return }
        var events = ByteBuffer(string: "[")
        for (index, entry) in self.batch.enumerated() {
            if index > 0 { events.writeString(",") }
            events.writeImmutableBuffer(entry.text)
        }
        events.writeString("]")
        self.batch = []
        guard let name = self.name else {
            self.sending = self.perform(self.request(.POST, "/session", events), seconds: self.patience, tries: 1) {
                self.opened($0)
            }
            return
        }
        var body = ByteBuffer(string: "{\"seq\":\(first.number ?? 1),\"events\":")
        body.writeImmutableBuffer(events)
        body.writeString("}")
        let request = self.request(.POST, "/session/\(name.handle)/send", body)
        // The gateway ignores a batch that it has, so it may be repeated.
        self.sending = self.perform(request, seconds: self.patience, tries: 2) { self.sent($0) }
    }

    private func opened(_ answer: Answer) {
        guard self.owner != nil else { return }
        guard case .whole(.ok, _, let body) = answer,
            let events = try? JSONValue(parsing: body, limits: WireEvent.limits).elements(
                limit: .max, limits: WireEvent.limits)
        else { return self.refused(answer) }
        if let text = events.first.flatMap({ WireEvent($0.raw)["session"]?.string }) { self.name = SessionName(text) }
        self.whenRead {
            for event in events { self.owner?.received(self, event.raw) }
            self.owner?.heard(self)
            self.sending = nil
            self.flush()
        }
    }

    private func sent(_ answer: Answer) {
        guard self.owner != nil else { return }
        guard case .whole(.ok, _, let body) = answer, let count = WireEvent(body)["received"]?.unsignedInteger else {
            return self.refused(answer)
        }
        self.whenRead {
            // The count of an answer says the same as an `ack`.
            self.owner?.received(
                self,
                JSONWriter.object { json in
                    json.member("event", "ack")
                    json.member("received", count)
                })
            self.sending = nil
            self.flush()
        }
    }

    /// An answer that ends the line.
    private func refused(_ answer: Answer) {
        guard case .whole(let status, let headers, let body) = answer else {
            guard case .failed(let reason) = answer else { return }
            return self.end(LineEnd(.abnormal, reason))
        }
        let event = WireEvent(body)
        if event.name == "hello" {
            self.owner?.received(self, body)
        } else if status == .conflict, event.code == "replaced" {
            self.end(LineEnd(.sessionReplaced, "a newer line has the session"))
        } else {
            let seconds = headers.first(name: "retry-after").flatMap { UInt32($0) }
            self.end(
                LineEnd(
                    .abnormal, "the server answered \(status.code) \(status.reasonPhrase)",
                    retryAfter: seconds.map { .seconds(Double($0)) }
                ))
        }
    }

    // MARK: Listening

    func listen(_ transport: ClientTransport, received: UInt64, wait: Span?) {
        self.listening?.cancel()
        self.listened = Self.listens.add(1, ordering: .relaxed).newValue
        guard let name = self.name else { return }
        let number = self.listened
        if transport == .poll, let wait {
            let body = ByteBuffer(string: "{\"received\":\(received),\"wait\":\(wait.seconds),\"number\":\(number)}")
            let request = self.request(.POST, "/session/\(name.handle)/poll", body)
            self.listening = self.perform(request, seconds: wait.seconds + self.patience, tries: 1) { answer in
                if number == self.listened { self.whenRead { self.polled(answer) } }
            }
        } else {
            self.listening = self.stream(
                self.request(.GET, "/session/\(name.handle)/stream?received=\(received)&number=\(number)"), number)
        }
    }

    private func polled(_ answer: Answer) {
        switch answer {
        case .failed(let reason): self.owner?.cut(self, reason: reason)
        case .whole(.ok, _, let body):
            let answer = WireEvent(body)
            guard let events = try? answer["events"]?.elements(limit: .max, limits: WireEvent.limits) else {
                self.owner?.cut(self, reason: "the answer is not that of a gateway")
                return
            }
            for event in events { self.owner?.received(self, event.raw) }
            guard let close = answer["close"] else {
                self.owner?.heard(self)
                return
            }
            self.closed(by: WireEvent(close.raw))
        case .whole(.notFound, _, _), .whole(.conflict, _, _): self.refused(answer)
        case .whole(let status, _, _):
            self.owner?.cut(self, reason: "the server answered \(status.code) \(status.reasonPhrase)")
        }
    }

    private func closed(by word: WireEvent) {
        let code = word["code"]?.unsignedInteger.flatMap(UInt16.init(exactly:)).map(CloseCode.init(rawValue:))
        self.end(LineEnd(word: code, reason: word["reason"]?.string ?? ""))
    }

    private func stream(_ request: HTTPClientRequest, _ number: UInt64) -> Task<Void, Never> {
        let (client, limit, loop) = (self.client, self.messageBytes, self.loop)
        let bound = NIOLoopBound(self, eventLoop: loop)
        return Task {
            do {
                // The stream itself takes as long as it takes: whether it lives, the machine decides.
                let response = try await client.execute(request, deadline: .distantFuture)
                guard response.status == .ok else {
                    let body = try await response.body.collect(upTo: limit)
                    return loop.execute {
                        let line = bound.value
                        guard line.listened == number else { return }
                        line.whenRead { line.polled(.whole(response.status, response.headers, body)) }
                    }
                }
                var parser = EventStreamParser(limit: limit)
                for try await bytes in response.body {
                    parser.append(bytes)
                    var elements: [EventStreamParser.Element] = []
                    while let element = try parser.next() { elements.append(element) }
                    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                        loop.execute { [elements] in
                            let line = bound.value
                            line.whenRead {
                                if line.listened == number { line.streamed(elements) }
                                continuation.resume()
                            }
                        }
                    }
                }
                loop.execute { bound.value.streamEnded(number, "the stream has ended") }
            } catch {
                let reason = describe(error)
                loop.execute { bound.value.streamEnded(number, reason) }
            }
        }
    }

    private func streamed(_ elements: [EventStreamParser.Element]) {
        for element in elements {
            switch element {
            case .comment: self.owner?.heard(self)
            case .event("close", let data): return self.closed(by: WireEvent(data))
            case .event("", let data): self.owner?.received(self, data)
            case .event: break
            }
        }
    }

    private func streamEnded(_ number: UInt64, _ reason: String) {
        guard self.listened == number else { return }
        self.whenRead { self.owner?.cut(self, reason: reason) }
    }
}
