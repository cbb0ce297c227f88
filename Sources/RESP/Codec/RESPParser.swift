import NIOCore

/// Reads RESP2 and RESP3, sans-IO: feed bytes with ``append(_:)``, take values with ``next()`` until it answers `nil`.
///
/// However the bytes are cut, the values and the error are the same, and every byte is looked at and copied a bounded
/// number of times: what has been understood of an incomplete value is kept as elements, not as bytes to read again.
/// Memory grows with what arrived, never with what a header announces.
///
/// Streamed strings and aggregates (`$?`, `*?`) are refused: no server sends them. After an error the parser reads
/// nothing more.
///
/// Source: RESP3 specification (github.com/redis/redis-specifications, protocol/RESP3.md).
public struct RESPParser: Sendable {
    /// What a peer may make us hold.
    public struct Limits: Sendable, Equatable {
        /// Most bytes of one bulk string. Redis's own is 512 MB.
        public var bulkBytes: Int = 64 << 20
        /// Most bytes of a line: a simple string, an error, a number, a header.
        public var lineBytes: Int = 64 << 10
        /// How deep aggregates may nest; 1 is an array of strings.
        public var depth: Int = 32
        /// Most elements of one value, those of all its aggregates together; an entry of a map counts twice.
        public var elements: Int = 1 << 20
        /// Most bytes of one value as it comes over the network, with all that is in it.
        public var valueBytes: Int = 256 << 20

        public init() {}
    }

    /// An aggregate of which some elements have come.
    struct Aggregate: Sendable {
        let type: RESPType
        var missing: Int
        var elements: [RESPValue]
    }

    /// A bulk string whose header has been read.
    struct Bulk: Sendable {
        let type: RESPType
        let length: Int
    }

    public let limits: Limits

    private var input = ByteBuffer()
    /// `input` is our own memory and nobody else's, with nothing read from it: bytes can be appended without copying those
    /// that are there.
    private var ownsInput = false
    /// Bytes of the line at the reader index that are known to have no end in them.
    private var scanned = 0
    private var bulk: Bulk?
    private var open: [Aggregate] = []
    /// Of the value that is being read.
    private var valueElements = 0
    private var valueBytes = 0
    private var isFinished = false

    public init(limits: Limits = Limits()) {
        self.limits = limits
    }

    /// Bytes held that are not yet part of a value.
    public var bufferedBytes: Int { self.input.readableBytes }

    /// Hands over bytes from the network.
    public mutating func append(_ bytes: ByteBuffer) {
        guard !self.isFinished, bytes.readableBytes > 0 else { return }
        if self.input.readableBytes == 0 {
            // Takes the buffer over instead of copying it; nearly always it holds whole values.
            self.input = bytes
            self.ownsInput = false
        } else {
            self.makeInputOwn()
            self.input.writeImmutableBuffer(bytes)
        }
    }

    /// The next value, or `nil` if more bytes are needed.
    /// - Throws: `.protocolError`, which says what was wrong, and for a limit also the limit and, where it is known, the
    ///   actual number.
    public mutating func next() throws(RESPError) -> RESPValue? {
        guard !self.isFinished else { return nil }
        do throws(RESPError) {
            while let scalar = try self.readElement() {
                guard let value = self.complete(scalar) else { continue }
                self.valueElements = 0
                self.valueBytes = 0
                return value
            }
        } catch {
            self.isFinished = true
            self.input = ByteBuffer()
            self.open = []
            throw error
        }
        if self.input.readableBytes == 0 { self.input = ByteBuffer() } else { self.makeInputOwn() }
        return nil
    }

    /// Moves the incomplete rest out of a buffer that slices or the network share with us: appending to a shared one would
    /// copy all of it every time, and the few bytes would keep it alive.
    private mutating func makeInputOwn() {
        guard !self.ownsInput else { return }
        self.input = ByteBuffer(bytes: self.input.readableBytesView)
        self.ownsInput = true
    }

    // MARK: Elements

    private enum Element {
        case value(RESPValue)
        /// The header of an aggregate that has elements: they come next.
        case opened
        /// Attributes without entries.
        case nothing
    }

    private mutating func readElement() throws(RESPError) -> Element? {
        if let bulk = self.bulk { return try self.readBulk(bulk) }
        guard let first: UInt8 = self.input.getInteger(at: self.input.readerIndex), self.input.readableBytes > 0 else {
            return nil
        }
        guard let type = RESPType(rawValue: first) else {
            throw .protocolError("0x\(String(first, radix: 16)) is not the first byte of a RESP value")
        }
        guard let length = try self.lineLength(type) else { return nil }
        self.ownsInput = false
        self.input.moveReaderIndex(forwardBy: 1)
        // Cannot fail: the end of the line has been found behind these bytes.
        let line = self.input.readSlice(length: length) ?? ByteBuffer()
        self.input.moveReaderIndex(forwardBy: 2)
        self.scanned = 0
        try self.count(bytes: length + 3)
        switch type {
        case .bulkString, .bulkError, .verbatimString:
            guard let length = try Scalar.length(of: line, type) else { return .value(.null) }
            guard length <= self.limits.bulkBytes else {
                throw .protocolError("\(type.name) of \(length) bytes, the limit is \(self.limits.bulkBytes)")
            }
            let bulk = Bulk(type: type, length: length)
            self.bulk = bulk
            return try self.readBulk(bulk)
        case .array, .map, .set, .push, .attribute:
            return try self.openAggregate(type, try Scalar.length(of: line, type))
        case .simpleString: return .value(.simpleString(line))
        case .simpleError: return .value(.simpleError(line))
        case .number: return .value(.number(try Scalar.number(line)))
        case .double: return .value(.double(try Scalar.double(line)))
        case .boolean: return .value(.boolean(try Scalar.boolean(line)))
        case .bigNumber: return .value(.bigNumber(try Scalar.bigNumber(line)))
        case .null:
            guard length == 0 else { throw .protocolError("a null with \(length) bytes in it") }
            return .value(.null)
        }
    }

    /// Bytes between the type and the CRLF; `nil` if the CRLF has not come.
    private mutating func lineLength(_ type: RESPType) throws(RESPError) -> Int? {
        let limit = self.limits.lineBytes
        let known = self.scanned
        // Closures cannot throw typed errors from here, so they answer with what they have found.
        let (scanned, end): (Int, LineEnd) = self.input.withUnsafeReadableBytes { bytes in
            var index = known
            while 1 + index < bytes.count {
                switch bytes[1 + index] {
                case 0x0D:
                    guard 2 + index < bytes.count else { return (index, .missing) }
                    return (index, bytes[2 + index] == 0x0A ? .found : .bareCR)
                case 0x0A: return (index, .bareLF)
                default:
                    index += 1
                    guard index <= limit else { return (index, .tooLong) }
                }
            }
            return (index, .missing)
        }
        self.scanned = scanned
        switch end {
        case .found: return scanned
        case .missing: return nil
        case .bareCR: throw .protocolError("a CR without LF in a \(type.name)")
        case .bareLF: throw .protocolError("a LF without CR in a \(type.name)")
        case .tooLong:
            throw .protocolError("a \(type.name) whose line has more than \(limit) bytes, which is the limit")
        }
    }

    private enum LineEnd {
        case found, missing, bareCR, bareLF, tooLong
    }

    private mutating func readBulk(_ bulk: Bulk) throws(RESPError) -> Element? {
        // CR and LF are checked as they come, so that the error does not depend on how the bytes are cut.
        let end = self.input.readerIndex + bulk.length
        let behind = self.input.readableBytes - bulk.length
        guard behind >= 1 else { return nil }
        guard self.input.getInteger(at: end, as: UInt8.self) == 0x0D else {
            throw .protocolError("no CRLF behind a \(bulk.type.name) of \(bulk.length) bytes")
        }
        guard behind >= 2 else { return nil }
        guard self.input.getInteger(at: end + 1, as: UInt8.self) == 0x0A,
            var payload = self.input.readSlice(length: bulk.length)
        else { throw .protocolError("no CRLF behind a \(bulk.type.name) of \(bulk.length) bytes") }
        self.input.moveReaderIndex(forwardBy: 2)
        self.ownsInput = false
        self.bulk = nil
        try self.count(bytes: bulk.length + 2)
        switch bulk.type {
        case .bulkError: return .value(.bulkError(payload))
        case .verbatimString:
            guard payload.readableBytes >= 4,
                payload.getInteger(at: payload.readerIndex + 3) == UInt8(ascii: ":")
            else { throw .protocolError("a verbatim string without a format of three characters and a colon") }
            payload.moveReaderIndex(forwardBy: 4)
            return .value(.verbatimString(payload))
        case .bulkString, .simpleString, .simpleError, .number, .double, .boolean, .bigNumber, .null, .array, .map,
            .set, .push, .attribute:
            return .value(.bulkString(payload))
        }
    }

    // MARK: Aggregates

    private mutating func openAggregate(_ type: RESPType, _ count: Int?) throws(RESPError) -> Element {
        guard let count else { return .value(.null) }
        guard type != .push || self.open.isEmpty else { throw .protocolError("a push inside another value") }
        let elements = count.multipliedReportingOverflow(by: type.isPaired ? 2 : 1)
        let total = self.valueElements.addingReportingOverflow(elements.partialValue)
        guard !elements.overflow, !total.overflow, total.partialValue <= self.limits.elements else {
            throw .protocolError(
                "\(type.name) of \(count), with which the value has more than \(self.limits.elements) elements,"
                    + " which is the limit")
        }
        self.valueElements = total.partialValue
        guard self.open.count < self.limits.depth else {
            throw .protocolError("a value nested \(self.open.count + 1) deep, the limit is \(self.limits.depth)")
        }
        guard count > 0 else { return Self.value(type, []).map { .value($0) } ?? .nothing }
        var aggregate = Aggregate(type: type, missing: elements.partialValue, elements: [])
        // A few elements are worth one allocation; more than that must have come before there is room for them.
        aggregate.elements.reserveCapacity(min(elements.partialValue, 8))
        self.open.append(aggregate)
        return .opened
    }

    /// Puts an element where it belongs.
    /// - Returns: the outermost value, if it is complete now.
    private mutating func complete(_ element: Element) -> RESPValue? {
        guard case .value(var value) = element else { return nil }
        while let last = self.open.indices.last {
            self.open[last].elements.append(value)
            self.open[last].missing -= 1
            guard self.open[last].missing == 0 else { return nil }
            let done = self.open.removeLast()
            guard let whole = Self.value(done.type, done.elements) else { return nil }
            value = whole
        }
        return value
    }

    /// - Returns: `nil` for attributes, which are not a value.
    private static func value(_ type: RESPType, _ elements: [RESPValue]) -> RESPValue? {
        switch type {
        case .array: return .array(elements)
        case .set: return .set(elements)
        case .push: return .push(elements)
        case .map:
            return .map(
                stride(from: 0, to: elements.count - 1, by: 2).map { index in
                    RESPValue.Pair(key: elements[index], value: elements[index + 1])
                })
        case .attribute, .simpleString, .simpleError, .bulkString, .bulkError, .verbatimString, .number, .double,
            .boolean, .bigNumber, .null:
            return nil
        }
    }

    private mutating func count(bytes: Int) throws(RESPError) {
        self.valueBytes += bytes
        guard self.valueBytes <= self.limits.valueBytes else {
            throw .protocolError("a value of at least \(self.valueBytes) bytes, the limit is \(self.limits.valueBytes)")
        }
    }
}
