/// The first byte of a value (RESP3 specification, "RESP3 types").
enum RESPType: UInt8, Sendable {
    case simpleString = 0x2B  // +
    case simpleError = 0x2D  // -
    case bulkString = 0x24  // $
    case bulkError = 0x21  // !
    case verbatimString = 0x3D  // =
    case number = 0x3A  // :
    case double = 0x2C  // ,
    case boolean = 0x23  // #
    case bigNumber = 0x28  // (
    case null = 0x5F  // _
    case array = 0x2A  // *
    case map = 0x25  // %
    case set = 0x7E  // ~
    case push = 0x3E  // >
    case attribute = 0x7C  // |

    /// For errors.
    var name: String {
        switch self {
        case .simpleString: "simple string"
        case .simpleError: "simple error"
        case .bulkString: "bulk string"
        case .bulkError: "bulk error"
        case .verbatimString: "verbatim string"
        case .number: "number"
        case .double: "double"
        case .boolean: "boolean"
        case .bigNumber: "big number"
        case .null: "null"
        case .array: "array"
        case .map: "map"
        case .set: "set"
        case .push: "push"
        case .attribute: "attribute"
        }
    }

    /// Its count is one of pairs.
    var isPaired: Bool { self == .map || self == .attribute }

    /// RESP2 wrote null as a bulk string or an array of length -1.
    var canBeNull: Bool { self == .bulkString || self == .array }
}
