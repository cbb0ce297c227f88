import Histogram
import HoldfastProtocol
import NIOCore
import NIOPosix

/// What all connections on one event loop of the load client have counted.
final class BenchCounters {
    var opened = 0
    var ready = 0
    var frames = 0
    var failures = 0
    /// Nanoseconds from publish call to arrival, of sampled connections.
    var latency = Histogram<UInt32>(numberOfSignificantValueDigits: .two)

    private static let mark = Array("\"t\":".utf8)

    /// Reads the digits behind the first `"t":` from `start` on, which the publisher has put there.
    func measure(_ text: ByteBuffer, from start: Int, now: UInt64) {
        guard let mark = text.firstIndex(of: Self.mark, from: start) else { return }
        var sent: UInt64 = 0
        var index = mark + Self.mark.count
        while let byte = text.getInteger(at: index, as: UInt8.self), byte >= 0x30, byte <= 0x39 {
            sent = sent * 10 + UInt64(byte - 0x30)
            index += 1
        }
        if sent > 0, now >= sent { self.latency.record(now - sent) }
    }
}

/// One subscriber of the load client. It counts frames without reading them, so that the client is not what is measured;
/// sampled connections read the time that the publisher put into the payload.
final class BenchConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let host: String
    private let subscription: String
    private let isNative: Bool
    private let isSampled: Bool
    private let counters: BenchCounters
    private var isOpen = false
    /// Replies to `hello` and `subscribe` still to come.
    private var replies: Int
    private var held = ByteBuffer()
    /// Bytes of the current frame's payload still to come.
    private var skip = 0

    init(host: String, subscription: String, isNative: Bool, isSampled: Bool, counters: BenchCounters) {
        self.host = host
        self.subscription = subscription
        self.isNative = isNative
        self.isSampled = isSampled
        self.counters = counters
        self.replies = isNative ? 2 : 1
    }

    func channelActive(context: ChannelHandlerContext) {
        var random = SystemRandomNumberGenerator()
        let key = WebSocketHandshake.key(high: random.next(), low: random.next())
        let request =
            "GET /socket HTTP/1.1\r\nHost: \(self.host)\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + "Sec-WebSocket-Key: \(key)\r\nSec-WebSocket-Version: 13\r\n\r\n"
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(string: request)), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var input = self.unwrapInboundIn(data)
        if self.held.readableBytes > 0 {
            self.held.writeBuffer(&input)
            input = self.held
            self.held = ByteBuffer()
        }
        if !self.isOpen {
            guard self.readHandshake(&input, context: context) else {
                self.held = input
                return
            }
        }
        let now = NIODeadline.now().uptimeNanoseconds
        self.countFrames(&input, now: now)
        // What is left is part of a header, or a sampled frame that is not whole.
        if input.readableBytes > 0 { self.held = input }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.counters.failures += 1
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func readHandshake(_ input: inout ByteBuffer, context: ChannelHandlerContext) -> Bool {
        let view = input.readableBytesView
        guard let end = view.firstRange(of: Array("\r\n\r\n".utf8)) else { return false }
        input.moveReaderIndex(to: end.upperBound)
        self.isOpen = true
        self.counters.opened += 1
        var random = SystemRandomNumberGenerator()
        if self.isNative {
            let hello = ByteBuffer(
                string: "{\"event\":\"hello\",\"version\":1,\"client\":{\"name\":\"holdfast-bench\"}}")
            context.write(self.wrapOutboundOut(WebSocketFrame.masked(.text, hello, mask: random.next())), promise: nil)
        }
        let subscribe = JSONWriter.object { json in
            json.member("event", "subscribe")
            json.member("subscription", self.subscription)
        }
        context.writeAndFlush(
            self.wrapOutboundOut(WebSocketFrame.masked(.text, subscribe, mask: random.next())), promise: nil)
        return true
    }

    private func countFrames(_ input: inout ByteBuffer, now: UInt64) {
        while true {
            if self.skip > 0 {
                let step = min(self.skip, input.readableBytes)
                input.moveReaderIndex(forwardBy: step)
                self.skip -= step
                guard self.skip == 0 else { return }
            }
            let start = input.readerIndex
            guard let first = input.getInteger(at: start, as: UInt8.self),
                let second = input.getInteger(at: start + 1, as: UInt8.self)
            else { return }
            var length = Int(second & 0x7F)
            var header = 2
            if length == 126 {
                guard let long = input.getInteger(at: start + 2, as: UInt16.self) else { return }
                (length, header) = (Int(long), 4)
            } else if length == 127 {
                guard let long = input.getInteger(at: start + 2, as: UInt64.self) else { return }
                (length, header) = (Int(long), 10)
            }
            if self.replies > 0 {
                input.moveReaderIndex(forwardBy: header)
                self.skip = length
                self.replies -= 1
                if self.replies == 0 { self.counters.ready += 1 }
                continue
            }
            if self.isSampled {
                guard input.readableBytes >= header + length else { return }
                self.counters.measure(input, from: start + header, now: now)
            }
            input.moveReaderIndex(forwardBy: header)
            self.skip = length
            // Pings of the gateway are no deliveries.
            if first & 0x0F == WebSocketOpcode.text.rawValue { self.counters.frames += 1 }
        }
    }
}
