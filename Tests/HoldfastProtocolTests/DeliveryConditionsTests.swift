import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct DeliveryConditionsTests {
    private func conditions(_ text: String, filterFields: [String] = []) throws -> DeliveryConditions? {
        DeliveryConditions(
            try JSONObject(parsing: ByteBuffer(string: text).inDirtyBuffer()), filterFields: filterFields)
    }

    private func options(_ text: String) throws -> DeliveryConditions? {
        try self.conditions("{\"data\":1,\"options\":\(text)}")
    }

    private func value(_ text: String) throws -> ComparableValue {
        ComparableValue(try JSONValue(parsing: ByteBuffer(string: text)))
    }

    private static let numbers: [(String, Double?)] = [
        ("3", 3), ("-3", -3), ("0", 0), ("0.25", 0.25), ("1e3", 1000), ("1E-3", 0.001), ("true", 1), ("false", 0),
        ("9007199254740993", 9_007_199_254_740_992), ("\"3\"", 3), ("\"-0.25\"", -0.25), ("\"+3\"", 3),
        ("\"1e3\"", 1000),
        ("\" 3 \"", 3), ("\"   3\"", 3), ("\"\\u0033\"", 3), ("\".5\"", 0.5),
        // Not convertible, or beyond a double.
        ("null", nil), ("[]", nil), ("[3]", nil), ("{}", nil), ("\"\"", nil), ("\" \"", nil), ("\"invalid\"", nil),
        ("\"3 4\"", nil), ("\"3,5\"", nil), ("\"3s\"", nil), ("\"--3\"", nil), ("\"e5\"", nil), ("\"1e\"", nil),
        ("\"+\"", nil), ("\".\"", nil), ("\"\\ud800\"", nil), ("\"true\"", nil), ("\"\u{0663}\"", nil),
        ("\"inf\"", nil), ("\"-inf\"", nil), ("\"Infinity\"", nil), ("\"nan\"", nil), ("\"NaN\"", nil),
        ("\"0x10\"", nil),
        ("\"1_0\"", nil), ("\"1e999\"", nil), ("\"-1e999\"", nil), ("1e999", nil), ("-1e999", nil),
    ]

    @Test(arguments: DeliveryConditionsTests.numbers)
    func orders(_ text: String, _ number: Double?) throws {
        let conditions = try self.options("{\"order\":\(text)}")
        #expect(conditions?.order == number)
        // Without anything else, everybody gets it.
        #expect((conditions == nil) == (number == nil))
    }

    @Test(arguments: DeliveryConditionsTests.numbers)
    func throttles(_ text: String, _ number: Double?) throws {
        #expect(try self.options("{\"throttle\":\(text)}")?.throttle == number)
        #expect(try self.options("{\"throttle\":\(text),\"order\":1}")?.throttle == number)
    }

    @Test func integersTooLargeForADouble() throws {
        let digits = "1" + String(repeating: "0", count: 400)
        #expect(try self.options("{\"order\":\(digits)}") == nil)
        #expect(try self.options("{\"order\":\"\(digits)\"}") == nil)
    }

    /// Some of these lose the message in SocketShark.
    @Test(
        arguments: [
            "null", "1", "true", "\"order\"", "[]", "[{\"order\":1}]", "{}", "\"{\\\"order\\\":1}\"", "{\"Order\":1}",
            "{\"order_key\":\"a\",\"throttle_key\":\"b\"}",
        ])
    func harmlessOptions(_ text: String) throws {
        #expect(try self.options(text) == nil)
        let conditions = try self.conditions("{\"options\":\(text),\"user\":1}", filterFields: ["user"])
        #expect(conditions?.fields.map(\.name) == ["user"])
        #expect(conditions?.order == nil)
        #expect(conditions?.throttle == nil)
    }

    @Test func noOptions() throws {
        #expect(try self.conditions("{}") == nil)
        #expect(try self.conditions("{\"data\":1,\"order\":1,\"throttle\":1}") == nil)
    }

    @Test func everything() throws {
        let conditions = try #require(
            try self.options("{\"order\":3,\"order_key\":\"k\",\"throttle\":0.1,\"throttle_key\":\"t\",\"other\":[]}"))
        #expect(conditions.order == 3)
        #expect(conditions.throttle == 0.1)
        #expect(try conditions.orderKey == self.value("\"k\""))
        #expect(try conditions.throttleKey == self.value("\"t\""))
        #expect(conditions.fields == [])
    }

    @Test func theLastOfDuplicatesWins() throws {
        #expect(try self.options("{\"order\":1,\"order\":2}")?.order == 2)
        #expect(try self.options("{\"order\":1,\"order\":null}") == nil)
        #expect(try self.conditions("{\"options\":{\"order\":1},\"options\":null}") == nil)
    }

    @Test(arguments: ["\"k\"", "\"\"", "1", "1.5", "true", "12345678901234567890", "\"1\""])
    func keys(_ text: String) throws {
        let conditions = try #require(
            try self.options("{\"order\":1,\"throttle\":1,\"order_key\":\(text),\"throttle_key\":\(text)}"))
        let key = try self.value(text)
        #expect(conditions.orderKey == key)
        #expect(conditions.throttleKey == key)
    }

    /// They are as the default key.
    @Test(arguments: ["null", "[]", "[1]", "{}", "{\"a\":1}"])
    func keysThatAreNone(_ text: String) throws {
        let conditions = try #require(
            try self.options("{\"order\":1,\"throttle\":1,\"order_key\":\(text),\"throttle_key\":\(text)}"))
        #expect(conditions.orderKey == nil)
        #expect(conditions.throttleKey == nil)
    }

    @Test func keysAreOfTheirOwnCondition() throws {
        let conditions = try #require(try self.options("{\"order\":1,\"throttle\":1,\"throttle_key\":\"t\"}"))
        #expect(conditions.orderKey == nil)
        #expect(conditions.throttleKey != nil)
    }

    @Test func filterFields() throws {
        let text = "{\"data\":{\"team\":9},\"user\":\"u1\",\"group\":null,\"extra\":[1]}"
        let conditions = try #require(try self.conditions(text, filterFields: ["group", "user", "team"]))
        // Those that are there, null too, in the order of the configuration; what is inside of others is not looked at.
        #expect(conditions.fields.map(\.name) == ["group", "user"])
        #expect(conditions.fields.map(\.value) == [.null, try self.value("\"u1\"")])
        #expect(conditions.order == nil)
        #expect(try self.conditions(text, filterFields: ["team"]) == nil)
        #expect(try self.conditions(text) == nil)
    }

    @Test func filterFieldsOfAnyKind() throws {
        for text in ["1", "true", "\"a\"", "[1,{}]", "{\"a\":[1]}"] {
            let conditions = try self.conditions("{\"user\":\(text)}", filterFields: ["user"])
            #expect(try conditions?.fields.first?.value == self.value(text))
        }
    }
}
