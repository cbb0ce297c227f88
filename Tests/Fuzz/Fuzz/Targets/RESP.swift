import NIOCore

@testable import RESP

extension FuzzTarget {
    static let resp = FuzzTarget(
        name: "resp",
        about: "RESP2 and RESP3: however cut, bounds, values and commands written again",
        maxBytes: 1024
    ) { bytes in
        for limits in [Self.smallLimits, RESPParser.Limits()] {
            let reading = Cut.requireSame(bytes, "RESP") { RESPReading($0, limits: limits) }
            require(reading.error.map { !$0.message.isEmpty && $0.code == .protocolError } ?? true, "an odd error")
            for value in reading.values {
                require(RESPReading.depth(value) <= limits.depth, "a value nested too deep")
                require(RESPReading.longest(value) <= limits.bulkBytes, "a string over the limit")
            }
            var written = ByteBuffer()
            for value in reading.values { RESPReading.write(value, into: &written) }
            let again = RESPReading([written], limits: RESPParser.Limits())
            requireSame(again, RESPReading(values: reading.values), "values, written again")
        }
        Self.checkCommand(bytes)
    }

    private static var smallLimits: RESPParser.Limits {
        var limits = RESPParser.Limits()
        limits.bulkBytes = 60
        limits.lineBytes = 40
        limits.depth = 4
        limits.elements = 20
        limits.valueBytes = 120
        return limits
    }

    /// Any bytes can be arguments.
    private static func checkCommand(_ bytes: [UInt8]) {
        let pieces = bytes.split(separator: 0x0A, omittingEmptySubsequences: false).map { ByteBuffer(bytes: $0) }
        let arguments = pieces.map { RESPArgument.bytes($0) }
        var buffer = ByteBuffer()
        RESPCommandEncoder.encode("SET", arguments, into: &buffer)
        let estimate = RESPCommandEncoder.estimate("SET", arguments)
        require(buffer.readableBytes <= estimate, "a command of \(buffer.readableBytes) bytes, estimated \(estimate)")
        let expected = RESPValue.array([.bulkString(ByteBuffer(string: "SET"))] + pieces.map { .bulkString($0) })
        requireSame(
            RESPReading([buffer], limits: RESPParser.Limits()), RESPReading(values: [expected]), "a command, read again"
        )
    }
}

/// What a parser says of some bytes. Values are compared as they are written, since a NaN is not equal to itself.
private struct RESPReading: Equatable {
    var values: [RESPValue] = []
    var error: RESPError?

    init(values: [RESPValue]) { self.values = values }

    init(_ pieces: [ByteBuffer], limits: RESPParser.Limits) {
        var parser = RESPParser(limits: limits)
        var fed = 0
        for piece in pieces {
            parser.append(piece)
            fed += piece.readableBytes
            do throws(RESPError) {
                while let value = try parser.next() { self.values.append(value) }
            } catch {
                self.error = self.error ?? error
                require(parser.bufferedBytes == 0, "bytes are kept after an error")
            }
            require(parser.bufferedBytes <= fed, "more bytes are kept than came")
        }
    }

    static func == (left: RESPReading, right: RESPReading) -> Bool {
        left.error == right.error && left.written == right.written
    }

    private var written: ByteBuffer {
        var buffer = ByteBuffer()
        for value in self.values { Self.write(value, into: &buffer) }
        return buffer
    }

    static func depth(_ value: RESPValue) -> Int { 1 + (Self.elements(value).map(Self.depthInside).max() ?? -1) }

    private static func depthInside(_ value: RESPValue) -> Int {
        switch value {
        case .array, .set, .push, .map: Self.depth(value)
        default: 0
        }
    }

    static func longest(_ value: RESPValue) -> Int {
        if case .bulkError(let bytes) = value { return bytes.readableBytes }
        if case .bulkString(let bytes) = value { return bytes.readableBytes }
        if case .verbatimString(let bytes) = value { return bytes.readableBytes }
        return Self.elements(value).map(Self.longest).max() ?? 0
    }

    private static func elements(_ value: RESPValue) -> [RESPValue] {
        switch value {
        case .array(let elements), .set(let elements), .push(let elements): elements
        case .map(let pairs): pairs.flatMap { [$0.key, $0.value] }
        default: []
        }
    }

    static func write(_ value: RESPValue, into buffer: inout ByteBuffer) {
        switch value {
        case .simpleString(let bytes): buffer.writeImmutable("+", bytes)
        case .simpleError(let bytes): buffer.writeImmutable("-", bytes)
        case .bulkString(let bytes): buffer.writeImmutable("$\(bytes.readableBytes)\r\n", bytes)
        case .bulkError(let bytes): buffer.writeImmutable("!\(bytes.readableBytes)\r\n", bytes)
        case .verbatimString(let bytes): buffer.writeImmutable("=\(bytes.readableBytes + 4)\r\ntxt:", bytes)
        case .number(let number): buffer.writeString(":\(number)\r\n")
        case .double(let number): buffer.writeString(",\(number)\r\n")
        case .boolean(let flag): buffer.writeString(flag ? "#t\r\n" : "#f\r\n")
        case .bigNumber(let digits): buffer.writeImmutable("(", digits)
        case .null: buffer.writeString("_\r\n")
        case .array(let elements): Self.write("*\(elements.count)", elements, into: &buffer)
        case .set(let elements): Self.write("~\(elements.count)", elements, into: &buffer)
        case .push(let elements): Self.write(">\(elements.count)", elements, into: &buffer)
        case .map(let pairs): Self.write("%\(pairs.count)", Self.elements(value), into: &buffer)
        }
    }

    private static func write(_ header: String, _ elements: [RESPValue], into buffer: inout ByteBuffer) {
        buffer.writeString(header + "\r\n")
        for element in elements { Self.write(element, into: &buffer) }
    }
}

extension ByteBuffer {
    fileprivate mutating func writeImmutable(_ header: String, _ bytes: ByteBuffer) {
        self.writeString(header)
        self.writeImmutableBuffer(bytes)
        self.writeString("\r\n")
    }
}
