import HoldfastClient
import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOHTTP1

/// A line of HTTP requests, as that of the Swift client (HoldfastClient/Line/HTTPLine.swift): one opens the session, others take
/// batches of events one after the other, and a stream or a poll listens.
final class SimulatedHTTPLine: SimulatedLine {
    let id: Int
    let transport: ClientTransport
    let openedAt: Int64
    private let surroundings: LineSurroundings
    private let listens: Listens
    private var name: SessionName?
    private var batch: [(text: ByteBuffer, number: UInt64?)] = []
    private var sending: SimulatedRequest?
    private var listening: SimulatedRequest?
    private var isOver = false
    /// The balancer sends all requests of a session to the same node (docs/proxies.md).
    private var node: Int?

    /// Numbers requests to listen over all lines of a client.
    final class Listens {
        var last: UInt64 = 0
    }

    /// Seconds for an answer that need not wait for anything.
    private static let patience = 10.0

    init(id: Int, _ transport: ClientTransport, _ listens: Listens, _ surroundings: LineSurroundings) {
        self.id = id
        self.transport = transport
        self.listens = listens
        self.surroundings = surroundings
        self.openedAt = surroundings.agenda.now
    }

    /// Nothing to connect: the first request does.
    func begin() { self.surroundings.tell(self.id, .opened) }

    func send(_ text: ByteBuffer, number: UInt64?) { self.batch.append((text, number)) }

    func letGo(code: CloseCode?) {
        self.isOver = true
        self.sending?.giveUp()
        self.listening?.giveUp()
    }

    private func tell(_ news: LineNews) {
        if !self.isOver { self.surroundings.tell(self.id, news) }
    }

    private func end(_ code: CloseCode, _ reason: String, retryAfter: RetryAfter? = nil) {
        guard !self.isOver else { return }
        self.letGo(code: nil)
        self.surroundings.tell(self.id, .closed(code, reason: reason, retryAfter: retryAfter))
    }

    private func request(
        _ method: HTTPMethod,
        _ path: String,
        _ body: ByteBuffer = ByteBuffer(),
        seconds: Double?
    ) -> SimulatedRequest {
        var headers = HTTPHeaders()
        if let name = self.name { headers.add(name: "Authorization", value: "Holdfast \(name.revealedSecret)") }
        let head = HTTPRequestHead(version: .http1_1, method: method, uri: path, headers: headers)
        let request = SimulatedRequest(head, body, seconds: seconds, self.surroundings, node: self.node)
        self.node = request.node
        return request
    }

    // MARK: Sending

    func flush() {
        guard self.sending == nil, !self.isOver, let first = self.batch.first else { return }
        var events = ByteBuffer(string: "[")
        for (index, entry) in self.batch.enumerated() {
            if index > 0 { events.writeString(",") }
            events.writeImmutableBuffer(entry.text)
        }
        events.writeString("]")
        self.batch = []
        guard let name = self.name else {
            self.sending = self.request(.POST, "/session", events, seconds: Self.patience)
            self.sending?.start { [weak self] in self?.opened($0) }
            return
        }
        var body = ByteBuffer(string: "{\"seq\":\(first.number ?? 1),\"events\":")
        body.writeImmutableBuffer(events)
        body.writeString("}")
        self.post("/session/\(name.handle)/send", body, tries: 2)
    }

    /// The gateway ignores a batch that it has, so it may be repeated.
    private func post(_ path: String, _ body: ByteBuffer, tries: Int) {
        self.sending = self.request(.POST, path, body, seconds: Self.patience)
        self.sending?.start { [weak self] answer in
            if case .failed = answer, tries > 1 { self?.post(path, body, tries: tries - 1) } else { self?.sent(answer) }
        }
    }

    private func opened(_ answer: SimulatedRequest.Answer) {
        guard case .whole(200, _, let body) = answer,
            let events = try? JSONValue(parsing: body, limits: WireEvent.limits).elements(
                limit: .max, limits: WireEvent.limits)
        else { return self.refused(answer) }
        if let text = events.first.flatMap({ WireEvent($0.raw)["session"]?.string }) { self.name = SessionName(text) }
        for event in events { self.tell(.received(event.raw)) }
        self.tell(.heard)
        self.sending = nil
        self.flush()
    }

    private func sent(_ answer: SimulatedRequest.Answer) {
        guard case .whole(200, _, let body) = answer, let count = WireEvent(body)["received"]?.unsignedInteger else {
            return self.refused(answer)
        }
        self.tell(.received(ByteBuffer(string: "{\"event\":\"ack\",\"received\":\(count)}")))
        self.sending = nil
        self.flush()
    }

    /// An answer that ends the line.
    private func refused(_ answer: SimulatedRequest.Answer) {
        guard case .whole(let status, let headers, let body) = answer else {
            return self.end(CloseCode(rawValue: 1006), "no answer")
        }
        let event = WireEvent(body)
        if event.name == "hello" {
            self.tell(.received(body))
        } else if status == 409, event.code == "replaced" {
            self.end(.sessionReplaced, "a newer line has the session")
        } else {
            let seconds = headers.first(name: "retry-after").flatMap { UInt32($0) }
            self.end(
                CloseCode(rawValue: 1006), "answered \(status)", retryAfter: seconds.map { .seconds(Double($0)) })
        }
    }

    // MARK: Listening

    func listen(_ transport: ClientTransport, received: UInt64, wait: Span?) {
        self.listening?.giveUp()
        self.listens.last += 1
        guard let name = self.name else { return }
        let number = self.listens.last
        if transport == .poll, let wait {
            let body = ByteBuffer(string: "{\"received\":\(received),\"wait\":\(wait.seconds),\"number\":\(number)}")
            self.listening = self.request(
                .POST, "/session/\(name.handle)/poll", body, seconds: wait.seconds + Self.patience)
            self.listening?.start { [weak self] in self?.polled($0) }
        } else {
            let path = "/session/\(name.handle)/stream?received=\(received)&number=\(number)"
            var parser = EventStreamParser(limit: 1 << 20)
            self.listening = self.request(.GET, path, seconds: nil)
            self.listening?.start { [weak self] in
                self?.polled($0)
            } piece: { [weak self] bytes in
                guard let bytes else {
                    self?.tell(.cut)
                    return
                }
                parser.append(bytes)
                while let element = try? parser.next() { self?.streamed(element) }
            }
        }
    }

    private func polled(_ answer: SimulatedRequest.Answer) {
        switch answer {
        case .failed: self.tell(.cut)
        case .whole(200, _, let body):
            let answer = WireEvent(body)
            guard let events = try? answer["events"]?.elements(limit: .max, limits: WireEvent.limits) else {
                return self.tell(.cut)
            }
            for event in events { self.tell(.received(event.raw)) }
            guard let close = answer["close"] else { return self.tell(.heard) }
            self.closed(by: WireEvent(close.raw))
        case .whole(404, _, _), .whole(409, _, _): self.refused(answer)
        case .whole: self.tell(.cut)
        }
    }

    private func closed(by word: WireEvent) {
        let code = word["code"]?.unsignedInteger.flatMap(UInt16.init(exactly:)).map(CloseCode.init(rawValue:))
        self.end(code ?? CloseCode(rawValue: 1005), word["reason"]?.string ?? "")
    }

    private func streamed(_ element: EventStreamParser.Element) {
        switch element {
        case .comment: self.tell(.heard)
        case .event("close", let data): self.closed(by: WireEvent(data))
        case .event("", let data): self.tell(.received(data))
        case .event: break
        }
    }
}

/// One HTTP request over a connection of its own.
final class SimulatedRequest {
    enum Answer {
        case whole(Int, HTTPHeaders, ByteBuffer)
        case failed
    }

    private let head: HTTPRequestHead
    private let body: ByteBuffer
    private let seconds: Double?
    private let surroundings: LineSurroundings
    private let pipe: Pipe
    private var completion: ((Answer) -> Void)?
    private var piece: ((ByteBuffer?) -> Void)?
    private var isStream = false
    private var timeout: Appointment?

    /// - Parameter seconds: for the whole answer; `nil` for ever.
    init(
        _ head: HTTPRequestHead,
        _ body: ByteBuffer,
        seconds: Double?,
        _ surroundings: LineSurroundings,
        node: Int?
    ) {
        self.head = head
        self.body = body
        self.seconds = seconds
        self.surroundings = surroundings
        self.pipe = surroundings.connect(node)
    }

    var node: Int { self.pipe.node }

    /// - Parameters:
    ///   - completion: the whole answer, or none; not called for an answer that comes in pieces.
    ///   - piece: of an answer without an end; `nil` when it ends all the same.
    func start(_ completion: @escaping (Answer) -> Void, piece: ((ByteBuffer?) -> Void)? = nil) {
        self.completion = completion
        self.piece = piece
        self.pipe.client = { parcel in self.received(parcel) }
        self.pipe.send(.toServer, .request(self.head, self.body))
        guard let seconds = self.seconds else { return }
        let agenda = self.surroundings.agenda
        self.timeout = agenda.appointment(at: agenda.now + Int64(seconds * 1_000_000)) { self.finish(.failed) }
    }

    func giveUp() {
        self.completion = nil
        self.piece = nil
        self.timeout?.cancel()
        self.pipe.closeClient()
    }

    private func finish(_ answer: Answer) {
        let completion = self.completion
        let piece = self.isStream ? self.piece : nil
        self.giveUp()
        if let piece { piece(nil) } else { completion?(answer) }
    }

    private func received(_ parcel: Parcel) {
        switch parcel {
        case .answer(let status, let headers, let body): self.finish(.whole(status, headers, body))
        case .stream(let bytes):
            self.isStream = true
            self.piece?(bytes)
        case .bytes(let bytes): self.piece?(bytes)
        case .end(let last):
            if let last { self.piece?(last) }
            self.finish(.failed)
        case .finish, .reset: self.finish(.failed)
        case .request: break
        }
    }
}
