import NIOCore

@testable import HoldfastClient
@testable import HoldfastProtocol
@testable import RESP

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension FuzzTarget {
    /// A peer that sends few bytes at a time must not cost more than their number.
    ///
    /// The input: which parser; bytes per piece; length of the beginning; the beginning, once; the rest, over and over.
    static let work = FuzzTarget(
        name: "work",
        about: "long streams of frames, RESP and events in small pieces: the work grows with the bytes, not faster",
        maxBytes: 64
    ) { bytes in
        guard bytes.count > 4 else { return }
        let beginning = Array(bytes.dropFirst(3).prefix(Int(bytes[2]) % (bytes.count - 3)))
        let pattern = Array(bytes.dropFirst(3 + beginning.count))
        let measure = { (count: Int) in
            Self.seconds(parser: bytes[0], Self.stream(beginning, pattern, count), pieces: Int(bytes[1]) % 64 + 1)
        }
        // Measured again before it is believed: a machine may be busy.
        for _ in 0..<3 {
            let (short, long) = (measure(Self.streamBytes), measure(4 * Self.streamBytes))
            if long < Self.leastSeconds || long < 8 * short { return }
        }
        fatalError("property broken: four times the bytes cost more than eight times the work")
    }

    private static let streamBytes = 128 << 10
    /// What takes less says nothing.
    private static let leastSeconds = 0.3

    private static func stream(_ beginning: [UInt8], _ pattern: [UInt8], _ count: Int) -> ByteBuffer {
        var stream = ByteBuffer(bytes: beginning)
        while stream.readableBytes < count { stream.writeBytes(pattern) }
        return stream
    }

    private static func seconds(parser: UInt8, _ stream: ByteBuffer, pieces length: Int) -> Double {
        let before = Self.processorSeconds
        switch parser % 4 {
        case 0:
            Self.feed(stream, length, WebSocketParser(role: .server)) {
                $0.append($1)
            } next: {
                try $0.next() != nil
            }
        case 1:
            Self.feed(stream, length, WebSocketParser(role: .client)) {
                $0.append($1)
            } next: {
                try $0.next() != nil
            }
        case 2:
            Self.feed(stream, length, RESPParser()) {
                $0.append($1)
            } next: {
                try $0.next() != nil
            }
        default:
            Self.feed(stream, length, EventStreamParser(limit: 1 << 20)) {
                $0.append($1)
            } next: {
                try $0.next() != nil
            }
        }
        return Self.processorSeconds - before
    }

    private static func feed<Parser>(
        _ stream: ByteBuffer,
        _ length: Int,
        _ parser: Parser,
        append: (inout Parser, ByteBuffer) -> Void,
        next: (inout Parser) throws -> Bool
    ) {
        var (stream, parser) = (stream, parser)
        while let piece = stream.readSlice(length: min(length, stream.readableBytes)), piece.readableBytes > 0 {
            // As the network would: in memory of its own.
            append(&parser, ByteBuffer(bytes: piece.readableBytesView))
            do {
                while try next(&parser) {}
            } catch {
                // The connection ends.
                return
            }
        }
    }

    /// Of this thread, so that what else the machine does is not counted.
    private static var processorSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
