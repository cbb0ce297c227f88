import NIOCore

/// Finds where the HTTP/1 messages of one direction of a connection begin and end (RFC 9112), and changes no byte.
///
/// Sans-IO and bounded: it keeps a copy of the head or of the chunk line that has begun, and nothing else. What is no
/// HTTP, or larger than ``headLimit``, is a tunnel from there on: bytes that nobody looks into.
struct HTTPFramer {
    enum Role: Equatable {
        case requests
        case responses
    }

    /// Consecutive bytes that belong together. All pieces in their order are the stream.
    struct Piece: Equatable {
        var bytes: ByteBuffer
        /// The first bytes of a message.
        var startsMessage = false
        /// In the piece that completes the head.
        var head: HTTPHead?
        var endsMessage = false
        var isTunnel = false
    }

    /// Bytes of a head, or of trailers.
    static let headLimit = 65_536
    /// Bytes of the line before a chunk.
    static let chunkLineLimit = 1_024

    private enum State: Equatable {
        case head
        case body(left: Int)
        case chunkLine
        /// With the line end behind it.
        case chunk(left: Int)
        case trailers
        case untilClose
        case tunnel
    }

    private let role: Role
    private var state = State.head
    /// The head, chunk line or trailers so far.
    private var text = ByteBuffer()
    private var lineLength = 0
    private var hasWords = false
    private var hasBegun = false

    init(role: Role) {
        self.role = role
    }

    var isTunnel: Bool { self.state == .tunnel }
    /// Whether a message has begun and its head is not complete.
    var isInHead: Bool { self.state == .head && self.hasBegun }

    mutating func becomeTunnel() {
        self.state = .tunnel
        self.text = ByteBuffer()
    }

    /// - Parameter hasNoBody: whether the response whose head may be completed now is one to HEAD. Not asked for
    ///   requests.
    /// - Returns: `nil` when `bytes` is empty.
    mutating func next(_ bytes: inout ByteBuffer, hasNoBody: Bool = false) -> Piece? {
        guard bytes.readableBytes > 0 else { return nil }
        let starts = self.state == .head && !self.hasBegun
        var piece: Piece
        switch self.state {
        case .head: piece = self.nextOfHead(&bytes, hasNoBody: hasNoBody)
        case .body(let left): piece = self.nextOfBody(&bytes, left: left)
        case .chunkLine: piece = self.nextOfChunkLine(&bytes)
        case .chunk(let left): piece = self.nextOfChunk(&bytes, left: left)
        case .trailers: piece = self.nextOfTrailers(&bytes)
        case .untilClose: piece = Piece(bytes: bytes.readSlice(length: bytes.readableBytes)!)
        case .tunnel: piece = Piece(bytes: bytes.readSlice(length: bytes.readableBytes)!, isTunnel: true)
        }
        piece.startsMessage = starts && !piece.isTunnel
        return piece
    }

    // MARK: Heads

    private mutating func nextOfHead(_ bytes: inout ByteBuffer, hasNoBody: Bool) -> Piece {
        self.hasBegun = true
        guard let (taken, isWhole) = self.takeLines(&bytes, limit: Self.headLimit) else { return self.tunnel(&bytes) }
        guard isWhole else {
            guard self.mayBeHTTP else { return self.tunnel(taken) }
            return Piece(bytes: taken)
        }
        guard let head = HTTPHead(self.text, role: self.role) else { return self.tunnel(taken) }
        self.forgetText()
        var piece = Piece(bytes: taken, head: head)
        self.state = self.stateAfter(head, hasNoBody: hasNoBody)
        piece.endsMessage = self.state == .head
        self.hasBegun = !piece.endsMessage
        return piece
    }

    /// RFC 9112, section 6.3.
    private func stateAfter(_ head: HTTPHead, hasNoBody: Bool) -> State {
        if self.role == .responses, hasNoBody || head.status < 200 || head.status == 204 || head.status == 304 {
            return .head
        }
        if head.isChunked { return .chunkLine }
        if let length = head.contentLength { return length == 0 ? .head : .body(left: length) }
        return self.role == .requests ? .head : .untilClose
    }

    /// Looks at the first line before it is complete: bytes that are no HTTP must not wait for a line end that never
    /// comes.
    private var mayBeHTTP: Bool {
        let start = self.text.readableBytesView.drop { $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\n") }
        switch self.role {
        case .responses: return zip(start, "HTTP/1.".utf8).allSatisfy { $0 == $1 }
        case .requests:
            let method = start.prefix { $0 != UInt8(ascii: " ") }
            return method.count <= 32 && method.allSatisfy(\.isTokenCharacter)
        }
    }

    // MARK: Bodies

    private mutating func nextOfBody(_ bytes: inout ByteBuffer, left: Int) -> Piece {
        let taken = bytes.readSlice(length: min(left, bytes.readableBytes))!
        let isOver = taken.readableBytes == left
        self.state = isOver ? .head : .body(left: left - taken.readableBytes)
        self.hasBegun = !isOver
        return Piece(bytes: taken, endsMessage: isOver)
    }

    private mutating func nextOfChunkLine(_ bytes: inout ByteBuffer) -> Piece {
        let view = bytes.readableBytesView
        let newline = view.firstIndex(of: UInt8(ascii: "\n"))
        let length = newline.map { view.distance(from: view.startIndex, to: $0) + 1 } ?? view.count
        guard self.text.readableBytes + length <= Self.chunkLineLimit else { return self.tunnel(&bytes) }
        let taken = bytes.readSlice(length: length)!
        self.text.writeImmutableBuffer(taken)
        guard newline != nil else { return Piece(bytes: taken) }
        let digits = self.text.readableBytesView.prefix { $0.isHexDigit }
        guard !digits.isEmpty, let size = Int(String(decoding: digits, as: UTF8.self), radix: 16), size < Int.max / 2
        else {
            return self.tunnel(taken)
        }
        self.forgetText()
        self.state = size == 0 ? .trailers : .chunk(left: size + 2)
        return Piece(bytes: taken)
    }

    private mutating func nextOfChunk(_ bytes: inout ByteBuffer, left: Int) -> Piece {
        let taken = bytes.readSlice(length: min(left, bytes.readableBytes))!
        let isOver = taken.readableBytes == left
        self.state = isOver ? .chunkLine : .chunk(left: left - taken.readableBytes)
        return Piece(bytes: taken)
    }

    private mutating func nextOfTrailers(_ bytes: inout ByteBuffer) -> Piece {
        // An empty line at once means: no trailers.
        self.hasWords = true
        guard let (taken, isWhole) = self.takeLines(&bytes, limit: Self.headLimit) else { return self.tunnel(&bytes) }
        guard isWhole else { return Piece(bytes: taken) }
        self.forgetText()
        self.state = .head
        self.hasBegun = false
        return Piece(bytes: taken, endsMessage: true)
    }

    // MARK: Lines

    /// Takes bytes up to the first empty line after one with words.
    ///
    /// - Returns: `nil` if the limit is passed.
    private mutating func takeLines(_ bytes: inout ByteBuffer, limit: Int) -> (ByteBuffer, isWhole: Bool)? {
        var count = 0
        var isWhole = false
        for byte in bytes.readableBytesView {
            count += 1
            if byte == UInt8(ascii: "\n") {
                if self.lineLength == 0, self.hasWords {
                    isWhole = true
                    break
                }
                self.lineLength = 0
            } else if byte != UInt8(ascii: "\r") {
                self.lineLength += 1
                self.hasWords = true
            }
        }
        guard self.text.readableBytes + count <= limit else { return nil }
        let taken = bytes.readSlice(length: count)!
        self.text.writeImmutableBuffer(taken)
        return (taken, isWhole)
    }

    private mutating func forgetText() {
        self.text = ByteBuffer()
        self.lineLength = 0
        self.hasWords = false
    }

    private mutating func tunnel(_ bytes: inout ByteBuffer) -> Piece {
        self.tunnel(bytes.readSlice(length: bytes.readableBytes)!)
    }

    private mutating func tunnel(_ taken: ByteBuffer) -> Piece {
        self.becomeTunnel()
        return Piece(bytes: taken, isTunnel: true)
    }
}

extension UInt8 {
    /// RFC 9110, section 5.6.2.
    fileprivate var isTokenCharacter: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(self)
        }
    }

    fileprivate var isHexDigit: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "F"),
            UInt8(ascii: "a")...UInt8(ascii: "f"):
            true
        default: false
        }
    }
}
