kbs_test(unit_cose SOURCES unit/test_cose.c LINKS kbs_cose_write kbs_cose_read kbs_agree LABELS unit)
kbs_fuzzer(fuzz_cose SOURCES fuzz/fuzz_cose.c LINKS kbs_cose_write kbs_cose_read CORPUS fuzz/corpus/cose)

# Receipts, in both forms.
kbs_test(unit_receipt SOURCES unit/test_receipt.c LINKS kbs_receipt_read LABELS unit)
kbs_fuzzer(fuzz_receipt SOURCES fuzz/fuzz_receipt.c LINKS kbs_receipt_read CORPUS fuzz/corpus/receipt)
