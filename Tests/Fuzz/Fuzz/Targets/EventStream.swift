import NIOCore

@testable import HoldfastClient

extension FuzzTarget {
    static let eventStream = FuzzTarget(
        name: "event-stream",
        about: "event streams: however cut, bounds, the same as a second reader",
        maxBytes: 1024
    ) { bytes in
        for limit in [30, 1 << 20] {
            let reading = Cut.requireSame(bytes, "an event stream") { StreamReading($0, limit: limit) }
            for case .event(_, let data) in reading.elements {
                require(data.readableBytes <= limit, "\(data.readableBytes) bytes of data, the limit is \(limit)")
            }
            if reading.isTooLong {
                require(bytes.count > limit, "too long, with a limit of \(limit), at \(bytes.count) bytes")
            } else {
                requireSame(
                    reading.elements, StreamReading(reference: bytes).elements, "the elements and the second reader's")
            }
        }
    }
}

private struct StreamReading: Equatable {
    var elements: [EventStreamParser.Element] = []
    var isTooLong = false

    init(_ pieces: [ByteBuffer], limit: Int) {
        var parser = EventStreamParser(limit: limit)
        for piece in pieces where !self.isTooLong {
            parser.append(piece)
            do throws(EventStreamParser.TooLong) {
                while let element = try parser.next() { self.elements.append(element) }
            } catch {
                self.isTooLong = true
                require(error.limit == limit, "an error with another limit")
            }
        }
    }

    /// WHATWG HTML §9.2.6 read a second time, on the whole input.
    init(reference bytes: [UInt8]) {
        var bytes = bytes[...]
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes = bytes.dropFirst(3) }
        var (type, data): (String, [UInt8]?) = ("", nil)
        for line in Self.lines(Array(bytes)) {
            if line.isEmpty {
                if let data { self.elements.append(.event(type: type, data: ByteBuffer(bytes: data))) }
                (type, data) = ("", nil)
            } else if line[0] == UInt8(ascii: ":") {
                self.elements.append(.comment)
            } else {
                let parts = line.split(separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
                var value = parts.count > 1 ? parts[1] : []
                if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
                switch Array(parts[0]).text {
                case "event": type = Array(value).text
                case "data": data = data.map { $0 + [0x0A] + value } ?? Array(value)
                default: break
                }
            }
        }
    }

    /// Those that have ended.
    private static func lines(_ bytes: [UInt8]) -> [[UInt8]] {
        var lines: [[UInt8]] = []
        var line: [UInt8] = []
        for (index, byte) in bytes.enumerated() {
            switch byte {
            case 0x0A where index > 0 && bytes[index - 1] == 0x0D: break
            case 0x0A, 0x0D:
                lines.append(line)
                line = []
            default: line.append(byte)
            }
        }
        return lines
    }
}
