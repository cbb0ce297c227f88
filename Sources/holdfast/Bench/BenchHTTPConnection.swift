import HoldfastProtocol
import NIOCore

/// One subscriber of the load client that uses the event stream or the long poll, all over one connection. Like
/// ``BenchConnection`` it does as little as it can with what comes.
final class BenchHTTPConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        /// The answer to `POST /session` is awaited.
        case opening
        case streaming
        case polling
    }

    private let host: String
    private let subscription: String
    private let isStream: Bool
    private let isSampled: Bool
    private let counters: BenchCounters
    private var phase = Phase.opening
    private var handle = ""
    private var authorization = ""
    /// Counted events that have come, the reply to `subscribe` included.
    private var received = 0
    private var held = ByteBuffer()

    /// Seconds that a poll waits: what a page that nobody looks at asks for.
    private static let wait = 25

    init(host: String, subscription: String, isStream: Bool, isSampled: Bool, counters: BenchCounters) {
        self.host = host
        self.subscription = subscription
        self.isStream = isStream
        self.isSampled = isSampled
        self.counters = counters
    }

    func channelActive(context: ChannelHandlerContext) {
        let subscribe = JSONWriter.object { json in
            json.member("event", "subscribe")
            json.member("subscription", self.subscription)
        }
        let hello = "{\"event\":\"hello\",\"version\":1,\"client\":{\"name\":\"holdfast-bench\"}}"
        self.post("/session", "[\(hello),\(String(buffer: subscribe))]", context: context)
    }

    private func post(_ path: String, _ body: String, context: ChannelHandlerContext) {
        let request =
            "POST \(path) HTTP/1.1\r\nHost: \(self.host)\r\n\(self.authorization)Content-Length: \(body.utf8.count)\r\n\r\n"
            + body
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(string: request)), promise: nil)
    }

    private func poll(context: ChannelHandlerContext) {
        self.post(
            "/session/\(self.handle)/poll", "{\"received\":\(self.received),\"wait\":\(Self.wait)}", context: context)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var input = self.unwrapInboundIn(data)
        if self.held.readableBytes > 0 {
            self.held.writeBuffer(&input)
            input = self.held
            self.held = ByteBuffer()
        }
        if case .streaming = self.phase {
            // Whole lines only; the numbers of chunks stand between them and do no harm.
            guard let end = input.readableBytesView.lastIndex(of: UInt8(ascii: "\n")),
                let lines = input.readSlice(length: end + 1 - input.readerIndex)
            else {
                self.held = input
                return
            }
            self.count(lines)
        } else {
            while let body = self.readAnswer(&input) { self.answered(body, context: context) }
        }
        self.held = input
    }

    private static let headEnd = Array("\r\n\r\n".utf8)
    private static let length = Array("ontent-Length: ".utf8)

    /// - Returns: the body of an answer that has come whole.
    private func readAnswer(_ input: inout ByteBuffer) -> ByteBuffer? {
        guard let head = input.firstIndex(of: Self.headEnd, from: input.readerIndex),
            let field = input.firstIndex(of: Self.length, from: input.readerIndex)
        else { return nil }
        let digits = input.readableBytesView[(field + Self.length.count)...].prefix { $0 >= 0x30 && $0 <= 0x39 }
        let length = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
        guard input.writerIndex - (head + Self.headEnd.count) >= length else { return nil }
        input.moveReaderIndex(to: head + Self.headEnd.count)
        return input.readSlice(length: length)
    }

    private func answered(_ body: ByteBuffer, context: ChannelHandlerContext) {
        guard case .opening = self.phase else {
            self.count(body)
            return self.poll(context: context)
        }
        guard let events = try? JSONValue(parsing: body).elements(limit: 3), events.count == 3,
            let name = (try? JSONObject(parsing: events[0].raw))?["session"]?.string
        else { return context.close(promise: nil) }
        let parts = name.split(separator: ".")
        self.handle = String(parts[0])
        self.authorization = "Authorization: Holdfast \(parts[1])\r\n"
        self.received = 1
        self.counters.opened += 1
        self.counters.ready += 1
        self.phase = self.isStream ? .streaming : .polling
        guard self.isStream else { return self.poll(context: context) }
        let request =
            "GET /session/\(self.handle)/stream?received=1 HTTP/1.1\r\nHost: \(self.host)\r\n\(self.authorization)\r\n"
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(string: request)), promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.counters.failures += 1
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private static let message = Array("\"event\":\"message\"".utf8)

    private func count(_ text: ByteBuffer) {
        let now = NIODeadline.now().uptimeNanoseconds
        var index = text.readerIndex
        while let found = text.firstIndex(of: Self.message, from: index) {
            index = found + Self.message.count
            self.received += 1
            self.counters.frames += 1
            if self.isSampled { self.counters.measure(text, from: index, now: now) }
        }
    }
}
